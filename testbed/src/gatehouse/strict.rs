//! A strict RFC 9112 reader that judges what a backend (or a client) was sent.
//!
//! It accepts only what every implementation reads the same way; the rest is a [`Violation`].
//! Written apart from the gateway on purpose: the judge must not share the defendant's parser.

/// Why bytes are not one well-formed message.
pub type Violation = String;

/// One header field, in the order and spelling received; optional white space removed.
#[derive(Clone, Debug)]
pub struct Field {
    /// As it was spelled.
    pub name: String,
    /// Without the white space around it.
    pub value: Vec<u8>,
}

/// A start line and its fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// Request line or status line.
    pub start: String,
    /// In the order received.
    pub fields: Vec<Field>,
}

/// How long a body is (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunk by chunk.
    Chunked,
    /// Whatever comes until the connection ends.
    UntilClose,
}

/// A body that was read to its end.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Without its framing.
    pub data: Vec<u8>,
    /// Fields behind the last chunk.
    pub trailers: Vec<Field>,
    /// Chunk extensions: legal, but a gateway has no business to relay them.
    pub extensions: bool,
}

impl Head {
    /// Every value of the fields with this name, lossily as text.
    pub fn all(&self, name: &str) -> Vec<String> {
        all(&self.fields, name)
    }

    fn tokens(&self, name: &str) -> Vec<String> {
        self.all(name)
            .iter()
            .flat_map(|v| v.split(',').map(|t| t.trim().to_ascii_lowercase()).collect::<Vec<_>>())
            .filter(|t| !t.is_empty())
            .collect()
    }
}

/// Every value of the fields with this name, lossily as text.
pub fn all(fields: &[Field], name: &str) -> Vec<String> {
    fields
        .iter()
        .filter(|f| f.name.eq_ignore_ascii_case(name))
        .map(|f| String::from_utf8_lossy(&f.value).into_owned())
        .collect()
}

/// Reads start line and fields; `Ok(None)` while bytes are missing.
pub fn head(buf: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
    let Some((start, mut at)) = line(buf, 0)? else { return Ok(None) };
    if start.is_empty() {
        return Err("empty line where a start line belongs".into());
    }
    if !start.is_ascii() {
        return Err("non-ASCII byte in the start line".into());
    }
    let start = String::from_utf8_lossy(start).into_owned();
    let mut fields = Vec::new();
    loop {
        let Some((text, next)) = line(buf, at)? else { return Ok(None) };
        at = next;
        if text.is_empty() {
            return Ok(Some((Head { start, fields }, at)));
        }
        fields.push(field(text)?);
    }
}

/// The framing of a request with this head, and whether the head as a whole is unambiguous.
pub fn request_framing(head: &Head) -> Result<Framing, Violation> {
    let parts: Vec<&str> = head.start.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(format!("request line is not three words: {:?}", head.start));
    };
    if method.is_empty() || !method.bytes().all(is_tchar) {
        return Err(format!("method is not a token: {method:?}"));
    }
    if !(target.starts_with('/') || target == "*" && method == "OPTIONS") {
        return Err(format!("target is not in origin form: {target:?}"));
    }
    if let Some(b) = target.bytes().find(|b| !(0x21..=0x7e).contains(b) || *b == b'#') {
        return Err(format!("byte {b:#04x} in the target"));
    }
    if version != "HTTP/1.1" {
        return Err(format!("version {version:?} upstream"));
    }
    let hosts = head.all("host");
    if hosts.len() != 1 || hosts[0].is_empty() {
        return Err(format!("Host fields: {hosts:?}"));
    }
    Ok(declared(head)?.unwrap_or(Framing::None))
}

/// The framing of a response with this head to a request that was HEAD or not.
pub fn response_framing(head: &Head, to_head: bool) -> Result<(u16, Framing), Violation> {
    let rest = head
        .start
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| head.start.strip_prefix("HTTP/1.0 "))
        .ok_or_else(|| format!("status line {:?}", head.start))?;
    let code = rest.split(' ').next().unwrap_or("");
    if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) || code < "100" {
        return Err(format!("status code {code:?}"));
    }
    let status: u16 = code.parse().map_err(|_| format!("status code {code:?}"))?;
    let framing = declared(head)?;
    if to_head || status < 200 || status == 204 || status == 304 {
        return Ok((status, Framing::None));
    }
    Ok((status, framing.unwrap_or(Framing::UntilClose)))
}

/// Reads a body; `Ok(None)` while bytes are missing. `UntilClose` never completes here.
pub fn body(framing: Framing, buf: &[u8]) -> Result<Option<(Body, usize)>, Violation> {
    match framing {
        Framing::None => Ok(Some((Body::default(), 0))),
        Framing::UntilClose => Ok(None),
        Framing::Length(length) => {
            let length = usize::try_from(length).map_err(|_| "body too long to be true")?;
            Ok((buf.len() >= length)
                .then(|| (Body { data: buf[..length].to_vec(), ..Body::default() }, length)))
        }
        Framing::Chunked => chunked(buf),
    }
}

/// Hop-by-hop fields, and others that a gateway must not relay to a backend.
pub fn leaks(head: &Head) -> Vec<String> {
    let mut found = Vec::new();
    let websocket = head.tokens("upgrade") == ["websocket"];
    for token in head.tokens("connection") {
        if !(matches!(&*token, "close" | "keep-alive") || (websocket && token == "upgrade")) {
            found.push(format!("Connection: {token}"));
        }
    }
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "proxy", "http2-settings"] {
        if !head.all(name).is_empty() {
            found.push(name.into());
        }
    }
    if !head.all("upgrade").is_empty() && !websocket {
        found.push("upgrade".into());
    }
    found
}

fn declared(head: &Head) -> Result<Option<Framing>, Violation> {
    let lengths = head.all("content-length");
    let codings = head.all("transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) => {
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("Content-Length: {length:?}"));
            }
            Ok(Some(Framing::Length(length.parse().map_err(|_| "Content-Length overflows")?)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        ([], _) => Err(format!("Transfer-Encoding: {codings:?}")),
        (_, []) => Err(format!("{} Content-Length fields: {lengths:?}", lengths.len())),
        (_, _) => Err(format!("Content-Length {lengths:?} with Transfer-Encoding {codings:?}")),
    }
}

fn chunked(buf: &[u8]) -> Result<Option<(Body, usize)>, Violation> {
    let mut body = Body::default();
    let mut at = 0;
    loop {
        let Some((text, next)) = line(buf, at)? else { return Ok(None) };
        let digits = text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if digits == 0 || digits > 15 {
            return Err(format!("chunk size line {:?}", text.escape_ascii().to_string()));
        }
        match text.get(digits) {
            None => {}
            Some(b';') => body.extensions = true,
            Some(_) => {
                return Err(format!("chunk size line {:?}", text.escape_ascii().to_string()));
            }
        }
        let size = usize::from_str_radix(&String::from_utf8_lossy(&text[..digits]), 16)
            .map_err(|e| format!("chunk size: {e}"))?;
        at = next;
        if size == 0 {
            break;
        }
        let Some(data) = buf.get(at..at + size + 2) else { return Ok(None) };
        if &data[size..] != b"\r\n" {
            return Err("chunk data not followed by CRLF".into());
        }
        body.data.extend_from_slice(&data[..size]);
        at += size + 2;
    }
    loop {
        let Some((text, next)) = line(buf, at)? else { return Ok(None) };
        at = next;
        if text.is_empty() {
            return Ok(Some((body, at)));
        }
        body.trailers.push(field(text)?);
    }
}

/// One line that ends in CRLF and holds no control character but a tab.
fn line(buf: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Violation> {
    let rest = &buf[at..];
    let Some(end) = rest.iter().position(|b| *b == b'\n') else { return Ok(None) };
    let Some(text) = rest[..end].strip_suffix(b"\r") else {
        return Err(format!(
            "line ends in a bare LF: {:?}",
            rest[..end].escape_ascii().to_string()
        ));
    };
    if let Some(b) = text.iter().find(|b| (**b < 0x20 && **b != b'\t') || **b == 0x7f) {
        return Err(format!("byte {b:#04x} in line {:?}", text.escape_ascii().to_string()));
    }
    Ok(Some((text, at + end + 1)))
}

fn field(text: &[u8]) -> Result<Field, Violation> {
    let shown = || text.escape_ascii().to_string();
    let colon =
        text.iter().position(|b| *b == b':').ok_or_else(|| format!("no colon in {}", shown()))?;
    let name = &text[..colon];
    if name.is_empty() || !name.iter().copied().all(is_tchar) {
        return Err(format!("field name is not a token: {}", shown()));
    }
    Ok(Field {
        name: String::from_utf8_lossy(name).into_owned(),
        value: text[colon + 1..].trim_ascii().to_vec(),
    })
}

fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
