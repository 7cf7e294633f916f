//! Follows the framing of HTTP/1 on a connection byte by byte, before the HTTP library sees it.
//!
//! Owns the refusal of what two parsers may read differently (RFC 9112 §6.3, request smuggling): both `Content-Length` and
//! `Transfer-Encoding`, either of them twice, a coding other than `chunked`, lines that end in a bare LF, folded lines. The library below is
//! lenient with some of these. Refuses to answer by itself: it makes the bytes unreadable in place, so that the library answers 400 and
//! closes. Keeps no body and at most one short line.

/// The longest line that is looked at as a whole. Framing fields are far shorter; a longer line that is one of them is refused.
const LINE: usize = 128;

/// Where a connection is in its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte of a message.
    Between,
    /// In the request line.
    Request,
    /// In the header lines.
    Headers,
    /// This many bytes of body are to come.
    Fixed(u64),
    /// In a line that says how long the next chunk is.
    ChunkSize,
    /// This many bytes of the chunk are to come, its CRLF included.
    Chunk(u64),
    /// In the lines after the last chunk.
    Trailers,
    /// Something was refused; nothing of this connection is read any more.
    Refused,
}

/// The framing fields of the head that is being read.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
}

/// The beginning of a line that came in parts.
#[derive(Debug, Clone, Copy)]
struct Begun {
    text: [u8; LINE],
    /// How long the line is so far; more than `LINE` if it did not fit.
    length: usize,
    last: u8,
}

/// The framing of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    head: Head,
    begun: Begun,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::Between, head: Head::default(), begun: Begun { text: [0; LINE], length: 0, last: 0 } }
    }

    /// Whether a head was begun and is not complete.
    pub(super) fn in_head(&self) -> bool {
        matches!(self.state, State::Request | State::Headers)
    }

    /// Whether something was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Follows the next bytes. From the first one that is refused on they are overwritten.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(taken) => at += taken,
                Err(good) => {
                    self.state = State::Refused;
                    bytes[at + good..].fill(0);
                    return;
                }
            }
        }
    }

    /// Takes some bytes; `Err`: how many of them are still good.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let whole = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match self.state {
            State::Refused => Err(0),
            State::Fixed(left) => {
                let taken = whole(left);
                self.state = match left - taken as u64 {
                    0 => State::Between,
                    left => State::Fixed(left),
                };
                Ok(taken)
            }
            State::Chunk(left) => {
                let taken = whole(left);
                self.state = match left - taken as u64 {
                    0 => State::ChunkSize,
                    left => State::Chunk(left),
                };
                Ok(taken)
            }
            State::Between => {
                self.state = State::Request;
                self.head = Head::default();
                Ok(0)
            }
            State::Request | State::Headers | State::ChunkSize | State::Trailers => self.line(bytes),
        }
    }

    /// Takes a line, or the part of it that is there.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.begun.add(bytes);
            return Ok(bytes.len());
        };
        let begun = self.begun;
        self.begun.length = 0;
        let before = if end > 0 { bytes[end - 1] } else { begun.last };
        if before != b'\r' || (begun.length == 0 && end == 0) {
            return Err(end);
        }
        let sound = if begun.length == 0 {
            self.ended(&bytes[..end - 1])
        } else {
            let mut whole = begun;
            whole.add(&bytes[..end]);
            // One more than fits is as good as any length beyond.
            self.ended(&whole.text[..(whole.length - 1).min(LINE)])
        };
        if sound { Ok(end + 1) } else { Err(end) }
    }

    /// A line without its end, cut to [`LINE`] if it came in parts. `false`: it is refused.
    fn ended(&mut self, line: &[u8]) -> bool {
        match self.state {
            // Empty lines before a request are skipped (RFC 9112 §2.2).
            State::Request if line.is_empty() => {
                self.state = State::Between;
                true
            }
            State::Request => {
                self.state = State::Headers;
                true
            }
            State::Headers if line.is_empty() => {
                self.state = match self.head {
                    Head { chunked: true, .. } => State::ChunkSize,
                    Head { length: Some(length @ 1..), .. } => State::Fixed(length),
                    _ => State::Between,
                };
                true
            }
            State::Headers => self.field(line),
            State::ChunkSize => match chunk_size(line) {
                Some(0) => {
                    self.state = State::Trailers;
                    true
                }
                Some(size) => {
                    self.state = State::Chunk(size.saturating_add(2));
                    true
                }
                None => false,
            },
            State::Trailers => {
                if line.is_empty() {
                    self.state = State::Between;
                }
                true
            }
            State::Between | State::Fixed(_) | State::Chunk(_) | State::Refused => false,
        }
    }

    fn field(&mut self, line: &[u8]) -> bool {
        match line[0] {
            b' ' | b'\t' => false,
            b'c' | b'C' => match value_of(line, b"content-length") {
                None => true,
                Some(value) => {
                    let fits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) && line.len() < LINE;
                    let alone = self.head.length.is_none() && !self.head.chunked;
                    self.head.length = Some(value.iter().take(18).fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0') % 10)));
                    fits && alone
                }
            },
            b't' | b'T' => match value_of(line, b"transfer-encoding") {
                None => true,
                Some(value) => {
                    let alone = self.head.length.is_none() && !self.head.chunked;
                    self.head.chunked = true;
                    alone && value.eq_ignore_ascii_case(b"chunked") && line.len() < LINE
                }
            },
            _ => true,
        }
    }
}

impl Begun {
    fn add(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.last = *last;
        }
        let room = LINE.saturating_sub(self.length);
        let fits = bytes.len().min(room);
        if fits > 0 {
            self.text[self.length..self.length + fits].copy_from_slice(&bytes[..fits]);
        }
        self.length = self.length.saturating_add(bytes.len());
    }
}

/// The value of the field if it has this name, without the blanks around it. Blanks before the colon count as part of the name's line, too, so
/// that nobody hides a framing field behind one.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii_start().strip_prefix(b":"))??;
    Some(value.trim_ascii())
}

/// Hexadecimal digits, then nothing or an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if !(1..=15).contains(&digits) || !matches!(line.get(digits), None | Some(b';')) || line.len() >= LINE {
        return None;
    }
    std::str::from_utf8(&line[..digits]).ok().and_then(|text| u64::from_str_radix(text, 16).ok())
}

#[cfg(test)]
mod tests;
