//! A session: tags, commands, capabilities. Owns running a command to its end. Refuses to be used again when an end is missing.

use std::collections::BTreeSet;

use connector_core::{Error, ErrorKind, Result};

use super::{
    command::{Command, Piece},
    failure::{self, Errand},
    value::Value,
    wire::{ANSWER_CAP, Answer, Code, Kind, Status, Wire},
};

/// What a command's data goes to.
pub(crate) type OnData<'a> = &'a mut (dyn FnMut(Vec<Value>) -> Result<()> + Send);

/// How a command ended.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The code of its OK.
    pub(crate) code: Option<Code>,
    /// The codes of statuses on the way (`UIDVALIDITY`, `COPYUID`).
    pub(crate) notes: Vec<Code>,
}

impl Done {
    /// The code of this name, wherever it was.
    pub(crate) fn note(&self, name: &str) -> Option<&Code> {
        self.notes.iter().chain(&self.code).find(|code| code.name == name)
    }

    /// Its first value as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.note(name)?.values.first()?.number()
    }
}

/// An authenticated session, or one on its way there.
#[derive(Debug)]
pub(crate) struct Session {
    wire: Wire,
    tag: u32,
    capabilities: BTreeSet<String>,
    /// Nothing is under way: the next command gets its own answers.
    clean: bool,
    enabled: BTreeSet<&'static str>,
}

impl Session {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, tag: 0, capabilities: BTreeSet::new(), clean: true, enabled: BTreeSet::new() }
    }

    /// Whether it can be used again.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    /// Marks it as one to be thrown away.
    pub(crate) fn spoil(&mut self) {
        self.clean = false;
    }

    /// Marks it as ready again, after a dialogue that was led from outside.
    pub(crate) fn ready(&mut self) {
        self.clean = true;
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }

    /// Whether the server has a capability, in upper case.
    pub(crate) fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// All capabilities.
    pub(crate) fn capabilities(&self) -> &BTreeSet<String> {
        &self.capabilities
    }

    /// Whether this is Gmail, whose labels are folders and the other way round.
    pub(crate) fn is_gmail(&self) -> bool {
        self.has("X-GM-EXT-1")
    }

    /// Forgets what a server said before TLS.
    pub(crate) fn forget_capabilities(&mut self) {
        self.capabilities.clear();
    }

    /// Keeps what a CAPABILITY says.
    pub(crate) fn learn(&mut self, words: &[Value]) {
        self.capabilities = words.iter().filter_map(Value::text).map(|word| word.to_ascii_uppercase()).collect();
    }

    /// Asks for the capabilities.
    pub(crate) async fn ask_capabilities(&mut self) -> Result<()> {
        let mut found = Vec::new();
        self.run(Errand::Other, Command::new("CAPABILITY"), &mut |words| {
            if words.first().is_some_and(|word| word.is("CAPABILITY")) {
                found = words;
            }
            Ok(())
        })
        .await?;
        self.learn(found.get(1..).unwrap_or_default());
        Ok(())
    }

    /// Switches an extension on, once. `false`: the server does not have it.
    pub(crate) async fn enable(&mut self, extension: &'static str) -> Result<bool> {
        if self.enabled.contains(extension) {
            return Ok(true);
        }
        if !self.has(extension) || !self.has("ENABLE") && !self.has("IMAP4REV2") {
            return Ok(false);
        }
        let mut on = false;
        self.run(Errand::Other, Command::new("ENABLE").words(extension), &mut |words| {
            on |= words.first().is_some_and(|word| word.is("ENABLED")) && words.iter().any(|word| word.is(extension));
            Ok(())
        })
        .await?;
        if on {
            self.enabled.insert(extension);
        }
        Ok(on)
    }

    /// A tag that was not used before.
    pub(crate) fn next_tag(&mut self) -> String {
        self.tag += 1;
        format!("a{}", self.tag)
    }

    /// Runs a command whose data does not matter.
    pub(crate) async fn simple(&mut self, errand: Errand, command: Command) -> Result<Done> {
        self.run(errand, command, &mut |_| Ok(())).await
    }

    /// Runs a command that may answer with messages: each answer up to `cap` bytes.
    pub(crate) async fn run_large(&mut self, cap: usize, command: Command, on: OnData<'_>) -> Result<Done> {
        self.wire.set_cap(cap.max(ANSWER_CAP));
        let done = self.run(Errand::Other, command, on).await;
        self.wire.set_cap(ANSWER_CAP);
        done
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// What the server's NO or BAD means; [`ErrorKind::Transient`], [`ErrorKind::Timeout`] if the connection did not hold.
    pub(crate) async fn run(&mut self, errand: Errand, command: Command, on: OnData<'_>) -> Result<Done> {
        if !self.clean {
            return Err(Error::internal("a session with an unfinished command was to be used again"));
        }
        self.clean = false;
        let tag = self.next_tag();
        let mut done = Done::default();
        let mut line = tag.clone().into_bytes();
        line.push(b' ');
        for piece in command.into_pieces() {
            match piece {
                Piece::Words(words) => line.extend_from_slice(words.as_bytes()),
                Piece::Literal(literal) => {
                    // RFC 7888: without waiting, where the server takes that; LITERAL- up to 4096 bytes.
                    let at_once = self.has("LITERAL+") || (self.has("LITERAL-") || self.has("IMAP4REV2")) && literal.len() <= 4096;
                    line.extend_from_slice(format!("{{{}{}}}\r\n", literal.len(), if at_once { "+" } else { "" }).as_bytes());
                    self.wire.write(&line).await?;
                    line.clear();
                    if !at_once {
                        self.go_ahead(&tag, errand, &mut done, on).await?;
                    }
                    self.wire.write(&literal).await?;
                }
            }
        }
        line.extend_from_slice(b"\r\n");
        self.wire.write(&line).await?;
        self.finish(&tag, errand, done, on).await
    }

    /// Reads to the end of the command `tag`.
    pub(crate) async fn finish(&mut self, tag: &str, errand: Errand, mut done: Done, on: OnData<'_>) -> Result<Done> {
        let mut farewell = None;
        loop {
            let answer = match self.wire.answer().await {
                Ok(answer) => answer,
                Err(error) if error.kind() == ErrorKind::Transient => return Err(farewell.unwrap_or(error)),
                Err(error) => return Err(error),
            };
            match answer {
                Answer::Tagged(found, status) if found == tag => return self.end(status, errand, done),
                Answer::Tagged(..) => return Err(Error::protocol("the mail server answered a command that was not sent")),
                Answer::Status(status) if status.kind == Kind::Bye => farewell = Some(failure::of(&status, errand)),
                Answer::Status(status) => self.note(status, &mut done),
                Answer::Data(words) => on(words)?,
                Answer::Continue(_) => return Err(Error::protocol("the mail server asked for more where there was no more")),
            }
        }
    }

    /// Waits until the server wants the literal.
    async fn go_ahead(&mut self, tag: &str, errand: Errand, done: &mut Done, on: OnData<'_>) -> Result<()> {
        loop {
            match self.wire.answer().await? {
                Answer::Continue(_) => return Ok(()),
                // It does not want it: nothing is under way any more.
                Answer::Tagged(found, status) if found == tag => {
                    self.clean = true;
                    return Err(failure::of(&status, errand));
                }
                Answer::Tagged(..) => return Err(Error::protocol("the mail server answered a command that was not sent")),
                Answer::Status(status) if status.kind == Kind::Bye => return Err(failure::of(&status, errand)),
                Answer::Status(status) => self.note(status, done),
                Answer::Data(words) => on(words)?,
            }
        }
    }

    fn note(&mut self, status: Status, done: &mut Done) {
        match status.code {
            Some(code) if code.name == "CAPABILITY" => self.learn(&code.values),
            Some(code) => done.notes.push(code),
            None => {}
        }
    }

    fn end(&mut self, status: Status, errand: Errand, mut done: Done) -> Result<Done> {
        self.clean = true;
        if status.kind != Kind::Ok {
            return Err(failure::of(&status, errand));
        }
        match status.code {
            Some(code) if code.name == "CAPABILITY" => self.learn(&code.values),
            code => done.code = code,
        }
        Ok(done)
    }
}
