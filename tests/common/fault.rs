//! A proxy in front of a registry that does to connections what networks and registries do.
//!
//! It counts requests and hurts those that it is told to hurt. Each request has a connection of its
//! own, on both sides.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What happens to a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection is cut after so many bytes of the answer's body.
    CutAnswer(u64),
    /// The answer does not say how long it is, and is cut after its last byte.
    CutEnd,
    /// The connection is cut after so many bytes of the request's body.
    CutRequest(u64),
    /// The answer is complete, and so many bytes long only.
    Short(u64),
    /// One byte of the answer's body is another.
    Corrupt(u64),
    /// The registry answers, and nobody hears it.
    LoseAnswer,
    /// The answer is this, and the registry never hears of the request: status, headers, body.
    Answer(u16, &'static [&'static str], &'static str),
    /// The answer is this status, and the connection is closed without a look at the request's
    /// body.
    Deaf(u16),
    /// As [`Fault::Answer`], a redirect to this URL.
    Redirect(String),
    /// It is a request for a token, and gets this one.
    Token(usize),
    /// It has no token that is good, and is told where to get one.
    Challenge,
    /// The request's `Range` gets lost.
    DropRange,
    /// The registry hears of the request so much later.
    Late(Duration),
    /// The answer comes in pieces of this many bytes, each a millisecond after the other.
    Slow(usize),
}

/// Which requests are hurt, how, and how often.
struct Rule {
    method: &'static str,
    /// Part of the path and query.
    path: String,
    fault: Fault,
    times: usize,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and path, with query.
    pub line: String,
    /// Whether it named its sender.
    pub authorized: bool,
    /// Its `Range`.
    pub range: Option<String>,
}

#[derive(Default)]
struct State {
    rules: VecDeque<Rule>,
    seen: Vec<Seen>,
    gate: Option<Gate>,
}

/// Lets those in who have a token of its own service, `/token`.
struct Gate {
    /// For how many requests a token is good.
    uses: usize,
    /// For how long it is good.
    life: Duration,
    /// Those that were given out: since when, and how many requests they still are good for.
    tokens: Vec<(Instant, usize)>,
}

/// A running proxy. It ends with the test program.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Starts one in front of a port of this machine.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that breaks is what this is for.
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

    /// Hurts the next `times` requests with this method whose path and query contain `path`.
    pub(crate) fn hurt(&self, method: &'static str, path: &str, fault: Fault, times: usize) {
        let rule = Rule { method, path: path.to_owned(), fault, times };
        self.state.lock().unwrap().rules.push_back(rule);
    }

    /// From now on wants a token with each request, and gives out ones that are good for so many.
    pub(crate) fn guard(&self, uses: usize) {
        self.guard_for(uses, Duration::MAX);
    }

    /// As [`Proxy::guard`]; tokens end after a while as well, and sooner than they say.
    pub(crate) fn guard_for(&self, uses: usize, life: Duration) {
        self.state.lock().unwrap().gate = Some(Gate { uses, life, tokens: Vec::new() });
    }

    /// Returns the requests since the last call, in the order in which they came, and heals
    /// everything.
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

/// A head: its first line, its headers.
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
    // Who is not let in cannot be hurt.
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

/// Returns what is to be done to a request.
fn hurt(state: &Mutex<State>, request: &Head) -> Option<Fault> {
    let (method, path) = request.line.split_once(' ').unwrap();
    let mut state = state.lock().unwrap();
    let is_meant = |rule: &&mut Rule| rule.times > 0 && rule.method == method && path.contains(&rule.path);
    state.rules.iter_mut().find(is_meant).map(|rule| {
        rule.times -= 1;
        rule.fault.clone()
    })
}

/// Gives out tokens, and sends away who has none that is good. Registries behind it see no token.
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

/// Answers and closes the connection at once: whoever is still sending hears nothing of it.
fn refuse_and_close(mut client: &TcpStream, status: u16) -> io::Result<()> {
    write!(client, "HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    // The kernel resets connections that are closed with bytes unread.
    client.shutdown(Shutdown::Both)
}

/// Answers without asking the registry. Takes the request's body first, as servers that want to be
/// heard do.
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
