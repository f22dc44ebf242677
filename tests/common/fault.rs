//! A proxy in front of a registry. It causes the faults of networks and registries.
//!
//! It records requests and applies faults to the chosen ones. Each request has its own connection,
//! on both sides.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A fault of a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection is cut after this many bytes of the body of the answer.
    CutAnswer(u64),
    /// The answer has no length, and the connection is cut after its last byte.
    CutEnd,
    /// The connection is cut after this many bytes of the body of the request.
    CutRequest(u64),
    /// The answer is complete, but has only this many bytes.
    Short(u64),
    /// One byte of the body of the answer is wrong.
    Corrupt(u64),
    /// The answer of the registry is lost.
    LoseAnswer,
    /// The proxy answers with this status, headers and body, and does not forward the request.
    Answer(u16, &'static [&'static str], &'static str),
    /// The proxy answers with this status, and closes the connection without reading the body of
    /// the request.
    Deaf(u16),
    /// As [`Fault::Answer`], a redirect to this URL.
    Redirect(String),
    /// The request is for a token, and gets this one.
    Token(usize),
    /// The request has no valid token, and gets a challenge.
    Challenge,
    /// The header `Range` of the request is lost.
    DropRange,
    /// The request is forwarded after this time.
    Late(Duration),
    /// The answer comes in pieces of this many bytes, one per millisecond.
    Slow(usize),
}

/// The requests that get a fault, and how often.
struct Rule {
    method: &'static str,
    /// A part of path and query.
    path: String,
    fault: Fault,
    times: usize,
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and path, with query.
    pub line: String,
    /// True if it has credentials.
    pub authorized: bool,
    /// The header `Range`.
    pub range: Option<String>,
}

#[derive(Default)]
struct State {
    rules: VecDeque<Rule>,
    seen: Vec<Seen>,
    gate: Option<Gate>,
}

/// Accepts only requests with a token of the proxy's own service, `/token`.
struct Gate {
    /// The number of requests for which a token is valid.
    uses: usize,
    /// The time for which a token is valid.
    life: Duration,
    /// Issued tokens, with the time of issue and the number of requests that are left.
    tokens: Vec<(Instant, usize)>,
}

/// A running proxy. It ends with the test program.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Starts a proxy in front of a port of this machine.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // Errors of broken connections are expected here.
                thread::spawn(move || {
                    let _ = serve(&client, upstream, &state);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, state }
    }

    /// Returns `localhost:<port>`.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Applies a fault to the next `times` requests with this method whose path and query contain
    /// `path`.
    pub(crate) fn hurt(&self, method: &'static str, path: &str, fault: Fault, times: usize) {
        let rule = Rule { method, path: path.to_owned(), fault, times };
        self.state.lock().unwrap().rules.push_back(rule);
    }

    /// From now on, requires a token for each request, and issues tokens for this many requests.
    pub(crate) fn guard(&self, uses: usize) {
        self.guard_for(uses, Duration::MAX);
    }

    /// Like [`Proxy::guard`], but tokens also expire after a time, earlier than they claim.
    pub(crate) fn guard_for(&self, uses: usize, life: Duration) {
        self.state.lock().unwrap().gate = Some(Gate { uses, life, tokens: Vec::new() });
    }

    /// Returns the requests since the last call in order, and removes all faults.
    pub(crate) fn take(&self) -> Vec<Seen> {
        let mut state = self.state.lock().unwrap();
        state.rules.clear();
        std::mem::take(&mut state.seen)
    }

    /// Returns the methods and paths of the requests since the last call, without queries.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = self.take().into_iter();
        seen.map(|seen| seen.line.split('?').next().unwrap().to_owned()).collect()
    }
}

/// The head of a message: first line and headers.
struct Head {
    line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Self { line: lines[0].clone(), headers })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.headers.iter().position(|(known, _)| known == name)?;
        Some(self.headers.remove(at).1)
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.into()));
    }

    fn length(&self) -> u64 {
        self.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}\r\n", self.line)?;
        self.headers.iter().try_for_each(|(name, value)| write!(out, "{name}: {value}\r\n"))?;
        write!(out, "\r\n")
    }
}

fn serve(client: &TcpStream, upstream: u16, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut request = Head::read(&mut reader)?;
    let gate = pass_gate(state, &request);
    note(state, &request);
    // Faults apply only to requests with a valid token.
    let fault = match gate {
        Some(Fault::Challenge) => gate,
        token => hurt(state, &request).or(token),
    };
    if let Some(Fault::Deaf(status)) = fault {
        return refuse_and_close(client, status);
    }
    if request.take("expect").is_some() {
        write!(&mut &*client, "HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    match &fault {
        Some(Fault::Answer(status, headers, body)) => {
            return answer(client, reader, &request, *status, headers, body);
        }
        Some(Fault::Token(number)) => {
            let token = format!("{{\"token\":\"token-{number}\",\"expires_in\":300}}");
            return answer(client, reader, &request, 200, &[], &token);
        }
        Some(Fault::Challenge) => {
            let host = request.get("host").unwrap_or_default();
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:a:pull,push\""
            );
            return answer(client, reader, &request, 401, &[&challenge], "{}");
        }
        Some(Fault::Redirect(url)) => {
            let location = format!("Location: {url}");
            return answer(client, reader, &request, 307, &[&location], "");
        }
        Some(Fault::Late(time)) => thread::sleep(*time),
        Some(Fault::DropRange) => drop(request.take("range")),
        _ => {}
    }
    request.set("connection", "close");
    let registry = TcpStream::connect(("127.0.0.1", upstream))?;
    request.write(&mut &registry)?;
    let length = match fault {
        Some(Fault::CutRequest(bytes)) => bytes,
        _ => request.length(),
    };
    io::copy(&mut reader.take(length), &mut &registry)?;
    match fault {
        Some(Fault::CutRequest(_)) => Ok(()),
        Some(Fault::LoseAnswer) => io::copy(&mut &registry, &mut io::sink()).map(|_| ()),
        fault => relay(&registry, client, &request, fault.as_ref()),
    }
}

fn note(state: &Mutex<State>, request: &Head) {
    let (authorized, range) =
        (request.get("authorization").is_some(), request.get("range").map(str::to_owned));
    let line = request.line.trim_end_matches(" HTTP/1.1").to_owned();
    state.lock().unwrap().seen.push(Seen { line, authorized, range });
}

/// Returns the fault of a request.
fn hurt(state: &Mutex<State>, request: &Head) -> Option<Fault> {
    let (method, path) = request.line.split_once(' ').unwrap();
    let mut state = state.lock().unwrap();
    let is_meant = |rule: &&mut Rule| rule.times > 0 && rule.method == method && path.contains(&rule.path);
    state.rules.iter_mut().find(is_meant).map(|rule| {
        rule.times -= 1;
        rule.fault.clone()
    })
}

/// Issues tokens, and rejects requests without a valid token. Does not forward tokens to the
/// registry.
fn pass_gate(state: &Mutex<State>, request: &Head) -> Option<Fault> {
    let mut state = state.lock().unwrap();
    let gate = state.gate.as_mut()?;
    if request.line.contains(" /token") {
        gate.tokens.push((Instant::now(), gate.uses));
        return Some(Fault::Token(gate.tokens.len()));
    }
    let number = request.get("authorization").and_then(|text| text.strip_prefix("Bearer token-"));
    let number = number.and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
    match gate.tokens.get_mut(number.wrapping_sub(1)) {
        Some((since, left)) if *left > 0 && since.elapsed() < gate.life => {
            *left -= 1;
            None
        }
        _ => Some(Fault::Challenge),
    }
}

/// Answers and closes the connection at once. A client that is still sending cannot read the
/// answer.
fn refuse_and_close(mut client: &TcpStream, status: u16) -> io::Result<()> {
    write!(client, "HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    // The kernel resets a connection that is closed with unread bytes.
    client.shutdown(Shutdown::Both)
}

/// Answers without the registry. Reads the body of the request first, so that the client reads the
/// answer.
fn answer(
    mut client: &TcpStream,
    reader: impl Read,
    request: &Head,
    status: u16,
    headers: &[&str],
    body: &str,
) -> io::Result<()> {
    io::copy(&mut reader.take(request.length()), &mut io::sink())?;
    write!(client, "HTTP/1.1 {status} Fault\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
    headers.iter().try_for_each(|header| write!(client, "{header}\r\n"))?;
    write!(client, "\r\n{body}")
}

fn relay(
    registry: &TcpStream,
    mut client: &TcpStream,
    request: &Head,
    fault: Option<&Fault>,
) -> io::Result<()> {
    let mut reader = BufReader::new(registry);
    let mut head = Head::read(&mut reader)?;
    head.set("connection", "close");
    if let Some(Fault::Short(bytes)) = fault {
        head.set("content-length", bytes.to_string());
    }
    if let Some(Fault::CutEnd) = fault {
        let length = head.take("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        head.set("transfer-encoding", "chunked");
        head.write(&mut client)?;
        write!(client, "{length:x}\r\n")?;
        return io::copy(&mut reader.take(length), &mut client).map(|_| ());
    }
    head.write(&mut client)?;
    if request.line.starts_with("HEAD") {
        return Ok(());
    }
    match fault {
        Some(Fault::CutAnswer(bytes) | Fault::Short(bytes)) => {
            io::copy(&mut reader.take(*bytes), &mut client).map(|_| ())
        }
        Some(Fault::Corrupt(at)) => {
            io::copy(&mut (&mut reader).take(*at), &mut client)?;
            let mut byte = [0];
            reader.read_exact(&mut byte)?;
            client.write_all(&[byte[0] ^ 1])?;
            io::copy(&mut reader, &mut client).map(|_| ())
        }
        Some(Fault::Slow(bytes)) => {
            let mut piece = vec![0; *bytes];
            loop {
                match reader.read(&mut piece)? {
                    0 => return Ok(()),
                    count => client.write_all(&piece[..count])?,
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        _ => io::copy(&mut reader, &mut client).map(|_| ()),
    }
}
