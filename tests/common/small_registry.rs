//! A registry in this process, in memory and without accounts: the part of the distribution
//! protocol that the client needs.
//!
//! It checks digests, the order of chunks, and that the blobs of a manifest exist. With the feature
//! `system-tests`, the same tests run against Debian's `docker-registry`, so that this one stays
//! like a real registry.
//!
//! Source: distribution-spec, "Endpoints".

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use plywood::oci::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running registry. It ends with the test program.
pub(crate) struct Server {
    port: u16,
    directory: TempDir,
}

impl Server {
    /// Starts a registry.
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry: Arc<Mutex<Registry>> = Arc::default();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let registry = Arc::clone(&registry);
                // Some tests cut the connection, so errors are expected here.
                thread::spawn(move || drop(serve(&client, &registry)));
            }
        });
        Self { port, directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    /// Returns `localhost:<port>`.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns a directory for files that belong to the registry, such as a client's account.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The content of a registry.
#[derive(Default)]
struct Registry {
    blobs: HashMap<String, Arc<Vec<u8>>>,
    repositories: BTreeMap<String, Repository>,
    uploads: BTreeMap<usize, Vec<u8>>,
    next_upload: usize,
}

#[derive(Default)]
struct Repository {
    blobs: BTreeSet<String>,
    /// By digest: media type and bytes.
    manifests: BTreeMap<String, (String, Arc<Vec<u8>>)>,
    tags: BTreeMap<String, String>,
}

/// A complete request.
struct Asked {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer, with the range of its body to send.
struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
    from: usize,
}

impl Said {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Arc::default(), from: 0 }
    }

    fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn body(self, kind: &str, body: Arc<Vec<u8>>) -> Self {
        Self { body, ..self.header("Content-Type", kind) }
    }

    fn json(self, document: &Value) -> Self {
        self.body("application/json", Arc::new(document.to_string().into_bytes()))
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(status).json(&json!({ "errors": [{ "code": code, "message": code }] }))
    }
}

fn serve(client: &TcpStream, registry: &Mutex<Registry>) -> io::Result<()> {
    let asked = read(client)?;
    let said = registry.lock().unwrap().answer(&asked);
    let body = &said.body[said.from..];
    let mut head =
        format!("HTTP/1.1 {} -\r\nConnection: close\r\nContent-Length: {}\r\n", said.status, body.len());
    said.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let mut client = client;
    client.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method == "HEAD" { Ok(()) } else { client.write_all(body) }
}

/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;

fn read(client: &TcpStream) -> io::Result<Asked> {
    let mut first = [0];
    if client.peek(&mut first)? == 1 && first == [HANDSHAKE] {
        let mut client = client;
        client.write_all(
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n",
        )?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut reader = BufReader::new(client);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |text: &str| text.split_once('=').map(|(name, value)| (name.to_owned(), decoded(value)));
    let header = |line: &String| {
        line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: HashMap<_, _> = lines[1..].iter().filter_map(header).collect();
    let bytes = headers.get("content-length").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    // Clients wait for this answer before they send a large body.
    if headers.contains_key("expect") {
        let mut client = client;
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body)?;
    Ok(Asked {
        method,
        path: path.to_owned(),
        query: query.split('&').filter_map(pair).collect(),
        headers,
        body,
    })
}

/// Decodes percent-encoded characters (`%3A`).
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2.min(part.len()));
        decoded.push(char::from(u8::from_str_radix(code, 16).unwrap_or(b'?')));
        decoded.push_str(rest);
    }
    decoded
}

impl Registry {
    fn answer(&mut self, asked: &Asked) -> Said {
        let Some(path) = asked.path.strip_prefix("/v2/") else { return Said::error(404, "UNSUPPORTED") };
        if path.is_empty() {
            return Said::new(200).json(&json!({}));
        }
        if let Some((name, upload)) = path.split_once("/blobs/uploads/") {
            return self.upload(name, upload, asked);
        }
        if let Some((name, digest)) = path.split_once("/blobs/") {
            return self.blob(name, digest, asked);
        }
        if let Some((name, reference)) = path.split_once("/manifests/") {
            return self.manifest(name, reference, asked);
        }
        match path.strip_suffix("/tags/list").and_then(|name| Some((name, self.repositories.get(name)?))) {
            Some((name, repository)) => {
                let tags: Vec<_> = repository.tags.keys().collect();
                Said::new(200).json(&json!({ "name": name, "tags": tags }))
            }
            None => Said::error(404, "NAME_UNKNOWN"),
        }
    }

    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    fn has(&self, name: &str, digest: &str) -> bool {
        self.repositories.get(name).is_some_and(|repository| repository.blobs.contains(digest))
    }

    fn upload(&mut self, name: &str, upload: &str, asked: &Asked) -> Said {
        if asked.method == "POST" {
            return self.start_upload(name, asked);
        }
        let Some((number, sent)) =
            upload.parse().ok().and_then(|number| Some((number, self.uploads.get_mut(&number)?)))
        else {
            return Said::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        // A chunk at another position is refused with the expected position.
        if let Some(range) = asked.header("content-range")
            && range.split('-').next() != Some(&sent.len().to_string())
        {
            return under_way(name, number, sent.len(), 416);
        }
        sent.extend_from_slice(&asked.body);
        match asked.method.as_str() {
            "PATCH" => under_way(name, number, sent.len(), 202),
            "GET" => under_way(name, number, sent.len(), 204),
            "DELETE" => {
                self.uploads.remove(&number);
                Said::new(204)
            }
            "PUT" => self.finish_upload(name, number, asked.query.get("digest").map_or("", String::as_str)),
            _ => Said::error(405, "UNSUPPORTED"),
        }
    }

    fn start_upload(&mut self, name: &str, asked: &Asked) -> Said {
        if let (Some(digest), Some(from)) = (asked.query.get("mount"), asked.query.get("from"))
            && self.has(from, digest)
        {
            self.repository(name).blobs.insert(digest.clone());
            return created(name, "blobs", digest);
        }
        self.next_upload += 1;
        self.uploads.insert(self.next_upload, Vec::new());
        under_way(name, self.next_upload, 0, 202)
    }

    fn finish_upload(&mut self, name: &str, number: usize, digest: &str) -> Said {
        let blob = self.uploads.remove(&number).unwrap_or_default();
        if Digest::of(&blob).to_string() != digest {
            return Said::error(400, "DIGEST_INVALID");
        }
        self.blobs.insert(digest.to_owned(), Arc::new(blob));
        self.repository(name).blobs.insert(digest.to_owned());
        created(name, "blobs", digest)
    }

    fn blob(&mut self, name: &str, digest: &str, asked: &Asked) -> Said {
        if !self.has(name, digest) {
            return Said::error(404, "BLOB_UNKNOWN");
        }
        if asked.method == "DELETE" {
            self.repository(name).blobs.remove(digest);
            return Said::new(202);
        }
        let blob = Arc::clone(&self.blobs[digest]);
        let from = asked
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let whole = Said::new(200).header("Docker-Content-Digest", digest);
        match from {
            Some(from) if from >= blob.len() => Said::error(416, "RANGE_INVALID"),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                let part = Said { status: 206, from, ..whole.header("Content-Range", range) };
                part.body("application/octet-stream", blob)
            }
            None => whole.body("application/octet-stream", blob),
        }
    }

    fn manifest(&mut self, name: &str, reference: &str, asked: &Asked) -> Said {
        match asked.method.as_str() {
            "PUT" => self.put_manifest(name, reference, asked),
            "DELETE" => match self.repository(name).manifests.remove(reference) {
                Some(_) => {
                    self.repository(name).tags.retain(|_, digest| digest != reference);
                    Said::new(202)
                }
                None => Said::error(404, "MANIFEST_UNKNOWN"),
            },
            _ => {
                let repository = self.repository(name);
                let digest = repository.tags.get(reference).map_or(reference, String::as_str);
                match repository.manifests.get(digest) {
                    Some((kind, bytes)) => {
                        Said::new(200).header("Docker-Content-Digest", digest).body(kind, Arc::clone(bytes))
                    }
                    None => Said::error(404, "MANIFEST_UNKNOWN"),
                }
            }
        }
    }

    fn put_manifest(&mut self, name: &str, reference: &str, asked: &Asked) -> Said {
        let digest = Digest::of(&asked.body).to_string();
        let Ok(document) = serde_json::from_slice::<Value>(&asked.body) else {
            return Said::error(400, "MANIFEST_INVALID");
        };
        if reference.starts_with("sha256:") && reference != digest {
            return Said::error(400, "DIGEST_INVALID");
        }
        let layers = document["layers"].as_array().into_iter().flatten();
        let mut named = layers.chain(document.get("config")).filter_map(|blob| blob["digest"].as_str());
        if !named.all(|digest| self.has(name, digest)) {
            return Said::error(400, "MANIFEST_BLOB_UNKNOWN");
        }
        let kind = asked.header("content-type").unwrap_or_default().to_owned();
        let repository = self.repository(name);
        repository.manifests.insert(digest.clone(), (kind, Arc::new(asked.body.clone())));
        if reference != digest {
            repository.tags.insert(reference.to_owned(), digest.clone());
        }
        created(name, "manifests", &digest)
    }
}

fn created(name: &str, what: &str, digest: &str) -> Said {
    let place = format!("/v2/{name}/{what}/{digest}");
    Said::new(201).header("Location", place).header("Docker-Content-Digest", digest)
}

/// Returns an answer with the received size of an upload.
fn under_way(name: &str, number: usize, bytes: usize, status: u16) -> Said {
    let place = format!("/v2/{name}/blobs/uploads/{number}?_state=of-{number}");
    Said::new(status).header("Location", place).header("Range", format!("0-{}", bytes.saturating_sub(1)))
}
