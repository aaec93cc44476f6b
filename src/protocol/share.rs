//! Many sessions on one link to one server of a legacy revision: whose a message is.
//!
//! ```text
//!   the server:   Lost ──begin──▶ Beginning ──its answer──▶ Ready
//!                  ▲                  │  └──its refusal──▶ Refused
//!                  └──────lose────────┴──────────lose─────────┘
//!
//!   a request:    waiting ──Ready──▶ open ──the server's answer──▶ its client
//!                    │                │ its client cancels it, or leaves ──▶ a ghost until it is answered
//!                    └── lose ────────┴─▶ an error to its client
//!
//!   a question of the server:  asked ──the answer of the one who was asked──▶ the server
//!                                │ that one leaves ──▶ an error to the server
//!                                └ cancelled by the server, or lose ──▶ that one is told
//! ```
//!
//! The server is begun by us and believes that it has one client. Ids of requests and progress tokens become numbers
//! of ours, used once on a link however often the server is begun, and get their own spelling back on the way home.
//! Whom a message of the server goes to:
//!
//! - an answer, progress: to the one who made the request;
//! - a question: to the owner of the task that it names; else to the only one with requests open; else, if nothing is
//!   open, to the only session; else to nobody, and the server gets an error. Ghosts count as open, because a server
//!   may ask before it hears of the cancellation; they are given up after [`GHOST_ANSWERS`] later answers;
//! - `list_changed` and log messages: to every session that has begun, log messages from the level on that it set;
//! - an updated resource: to those who subscribed to it, or to what is above it;
//! - the state of a task, the end of an elicitation: to the one whose it is;
//! - another notification: to every session if it says nothing but its name; else as a question, or to nobody.
//!
//! One without a session (`Kind::Stateless`) gets answers, progress, questions, and log messages while it alone has
//! requests open. It answers questions over another connection, so their ids cannot be guessed.
//!
//! Always: nobody gets a message about another's request; every request that was taken is answered once, unless its
//! client cancelled it or left; after [`Share::leave`] nothing goes to that key; what is kept is bounded.

mod from_client;
mod from_server;
mod subscriptions;

pub use super::hub::{Action, GHOST_ANSWERS, Hub, Key, Kind, Limits};
use super::hub::{LINK_FACTOR, Phase, Waiting, whole};
use super::level::Level;
use super::message::{INTERNAL_ERROR, Id, Message};
use super::ticket::Tickets;
use std::collections::{BTreeMap, HashMap, VecDeque};
use subscriptions::Subscriptions;

/// The clients of one link, and what is under way between them and the server.
#[derive(Debug, Clone)]
pub struct Share {
    limits: Limits,
    tickets: Tickets,
    phase: Phase,
    /// The last number that was used on the link.
    last: u64,
    members: BTreeMap<Key, Member>,
    /// Whose request has this number.
    owners: HashMap<u64, Key>,
    questions: BTreeMap<u64, Question>,
    ghosts: BTreeMap<u64, Ghost>,
    /// Answers that the server gave.
    answers: u64,
    waiting: Waiting,
    subscriptions: Subscriptions,
    /// What the server was told last, unless it refused.
    server_level: Option<Level>,
    /// What one without a session asked for last.
    stateless_level: Option<Held>,
}

#[derive(Debug, Clone)]
struct Member {
    kind: Kind,
    /// It has begun: what is for every session is for it too.
    has_begun: bool,
    /// The capabilities it declared; only those that are looked at.
    declared: Vec<&'static str>,
    level: Option<Held>,
    open: BTreeMap<u64, Open>,
    /// How many of the open ones are cancelled.
    cancelled: usize,
    tasks: VecDeque<Task>,
    /// The elicitations whose end it will want to hear of.
    elicitations: VecDeque<String>,
}

/// A level that a client has set, by a request of this number.
#[derive(Debug, Clone, Copy)]
struct Held {
    level: Level,
    number: u64,
}

/// A request that the server has got.
#[derive(Debug, Clone)]
struct Open {
    id: Id,
    token: Option<Id>,
    is_cancelled: bool,
    purpose: Purpose,
}

/// What the answer to a request means to us.
#[derive(Debug, Clone)]
enum Purpose {
    Call,
    /// It wants to become a task.
    Task,
    SetLevel {
        before: Option<Held>,
    },
    Subscribe {
        uri: String,
    },
}

/// A task of the server that a request has become. The token of the request is still good.
#[derive(Debug, Clone)]
struct Task {
    id: String,
    number: u64,
    token: Option<Id>,
}

/// A request of the server that one of the clients has got.
#[derive(Debug, Clone)]
struct Question {
    key: Key,
    id: Id,
    token: Option<Id>,
    /// The id that the client knows; its token is the same.
    asked: Id,
    is_stateless: bool,
}

/// A request whose client does not want it any more, while the server may still work on it.
#[derive(Debug, Clone)]
struct Ghost {
    key: Key,
    /// Given up when the server has given that many answers.
    until: u64,
}

impl Share {
    /// A link without a server and without clients. `secret` makes the ids that must not be guessed.
    #[must_use]
    pub fn new(limits: Limits, secret: impl AsRef<str>) -> Self {
        Self {
            limits,
            tickets: Tickets::new(secret.as_ref()),
            phase: Phase::Lost,
            last: 0,
            members: BTreeMap::new(),
            owners: HashMap::new(),
            questions: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            answers: 0,
            waiting: Waiting::default(),
            subscriptions: Subscriptions::default(),
            server_level: None,
            stateless_level: None,
        }
    }

    /// What of a client the server or we owe an answer to, or cannot send yet.
    fn unanswered(&self, key: Key) -> usize {
        let open = self.members.get(&key).map_or(0, |member| member.open.len() - member.cancelled);
        open + self.waiting.count(key)
    }

    /// Whether the server has begun, so that nothing waits.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase.ready().is_some()
    }

    /// The error that the server answered our `initialize` with, or that was made because it could not be asked.
    #[must_use]
    pub fn refusal(&self) -> Option<&Message> {
        self.phase.refusal()
    }

    /// A fresh server is there. Until it has answered our `initialize`, what clients say waits.
    pub fn begin(&mut self, out: &mut Vec<Action>) {
        if !self.phase.is_lost() {
            self.lose("another process of the server takes its place", out);
        }
        let number = self.number();
        self.phase = Phase::Beginning(number);
        let version = env!("CARGO_PKG_VERSION");
        let capabilities = concat!(
            r#"{"roots":{"listChanged":true},"sampling":{"context":{},"tools":{}},"#,
            r#""elicitation":{"form":{},"url":{}}}"#
        );
        out.extend(to_server(&format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"mcp-proxy","version":"{version}"}}}}}}"#
        )));
    }

    /// A client joins.
    pub fn join(&mut self, key: Key, kind: Kind) {
        self.members.entry(key).or_insert_with(|| Member {
            kind,
            has_begun: false,
            declared: Vec::new(),
            level: None,
            open: BTreeMap::new(),
            cancelled: 0,
            tasks: VecDeque::new(),
            elicitations: VecDeque::new(),
        });
    }

    /// A client is gone: its requests are cancelled, what it was asked is answered with an error, its subscriptions
    /// and its log level end.
    pub fn leave(&mut self, key: Key, out: &mut Vec<Action>) {
        let Some(member) = self.members.remove(&key) else { return };
        self.waiting.leave(key);
        for (number, open) in member.open {
            self.owners.remove(&number);
            if !open.is_cancelled {
                self.haunt(number, key);
                out.extend(to_server(&format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"its client is gone"}}}}"#
                )));
            }
        }
        for (_, question) in self.questions.extract_if(.., |_, question| question.key == key) {
            let error = Message::error(Some(&question.id), INTERNAL_ERROR, "the client that was asked is gone");
            out.push(Action::ToServer(error));
        }
        let ended = self.subscriptions.leave(key);
        if self.is_ready() {
            for uri in ended {
                self.tell_subscription("resources/unsubscribe", &uri, out);
            }
            self.tell_level(out);
        }
    }

    /// The server is lost. What is open or waits is answered with an error in these words; the clients stay, with
    /// their subscriptions and levels.
    pub fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        self.phase = Phase::Lost;
        let error = |id: &Id| Message::error(Some(id), INTERNAL_ERROR, why);
        for (key, member) in &mut self.members {
            let open = std::mem::take(&mut member.open);
            for open in open.values().filter(|open| !open.is_cancelled) {
                out.push(Action::ToClient(*key, error(&open.id)));
            }
            for (number, open) in open.into_iter().rev() {
                match open.purpose {
                    Purpose::SetLevel { before } => {
                        let of_session = member.kind == Kind::Session;
                        let held = if of_session { &mut member.level } else { &mut self.stateless_level };
                        undo_level(held, number, before);
                    }
                    Purpose::Subscribe { uri } => self.subscriptions.refused(&uri, *key, number),
                    Purpose::Call | Purpose::Task => {}
                }
            }
            member.cancelled = 0;
            member.tasks.clear();
            member.elicitations.clear();
        }
        for (key, message) in self.waiting.take() {
            let answer = message.id().map(error);
            out.extend(answer.map(|answer| Action::ToClient(key, answer)));
        }
        self.owners.clear();
        self.ghosts.clear();
        self.server_level = None;
        self.withdraw_questions(why, out);
    }

    /// Nobody waits for the answers any more: those who were asked need not go on.
    fn withdraw_questions(&mut self, why: &str, out: &mut Vec<Action>) {
        let reason = serde_json::Value::from(why);
        for question in std::mem::take(&mut self.questions).into_values() {
            let id = question.asked.as_json();
            let told = own(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":{reason}}}}}"#
            ));
            out.extend(told.map(|told| Action::ToClient(question.key, told)));
        }
    }

    /// A message could not be sent to the server: whoever waits for its answer gets an error in these words.
    pub fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>) {
        let (Some(id), Some(_)) = (message.id(), message.method()) else { return };
        self.from_server(Message::error(Some(id), INTERNAL_ERROR, why), out);
    }

    /// A number that was not used on this link.
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A request is not wanted any more.
    fn haunt(&mut self, number: u64, key: Key) {
        self.ghosts.insert(number, Ghost { key, until: self.answers + GHOST_ANSWERS });
        if self.ghosts.len() > self.limits.open.saturating_mul(LINK_FACTOR) {
            self.ghosts.pop_first();
        }
    }

    /// Tells the server the most verbose level that anybody wants, if it does not know it.
    fn tell_level(&mut self, out: &mut Vec<Action>) {
        let wanted = self.wanted_level();
        if wanted.is_some() && wanted != self.server_level {
            self.server_level = wanted;
            let (number, level) = (self.number(), wanted.unwrap_or_default().as_json());
            out.extend(to_server(&format!(
                r#"{{"jsonrpc":"2.0","id":{number},"method":"logging/setLevel","params":{{"level":{level}}}}}"#
            )));
        }
    }

    fn wanted_level(&self) -> Option<Level> {
        let held = self.members.values().filter_map(|member| member.level).chain(self.stateless_level);
        held.map(|held| held.level).min()
    }

    /// A request of ours; nobody waits for its answer.
    fn tell_subscription(&mut self, method: &str, uri: &str, out: &mut Vec<Action>) {
        let (number, uri) = (self.number(), serde_json::Value::from(uri));
        out.extend(to_server(&format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{{"uri":{uri}}}}}"#
        )));
    }
}

impl Hub for Share {
    fn begin(&mut self, out: &mut Vec<Action>) {
        Self::begin(self, out);
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }

    fn refusal(&self) -> Option<&Message> {
        Self::refusal(self)
    }

    fn join(&mut self, key: Key, kind: Kind) {
        Self::join(self, key, kind);
    }

    fn leave(&mut self, key: Key, out: &mut Vec<Action>) {
        Self::leave(self, key, out);
    }

    fn from_client(&mut self, key: Key, message: Message, out: &mut Vec<Action>) {
        Self::from_client(self, key, message, out);
    }

    fn from_server(&mut self, message: Message, out: &mut Vec<Action>) {
        Self::from_server(self, message, out);
    }

    fn undelivered(&mut self, message: &Message, why: &str, out: &mut Vec<Action>) {
        Self::undelivered(self, message, why, out);
    }

    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        Self::lose(self, why, out);
    }
}

impl Member {
    fn is_busy(&self) -> bool {
        self.open.len() > self.cancelled
    }

    /// A request is not open any more.
    fn close(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.cancelled -= usize::from(open.is_cancelled);
        Some(open)
    }
}

/// Adds one and forgets the oldest when there would be more than `limit`.
fn keep<T>(kept: &mut VecDeque<T>, one: T, limit: usize) {
    if kept.len() >= limit {
        kept.pop_front();
    }
    kept.push_back(one);
}

/// The server has not taken a level: the one before counts again, unless another was set meanwhile.
fn undo_level(held: &mut Option<Held>, number: u64, before: Option<Held>) {
    if held.is_some_and(|held| held.number == number) {
        *held = before;
    }
}

/// A message of our own.
fn own(text: &str) -> Option<Message> {
    Message::parse(text.as_bytes().to_vec()).ok()
}

fn to_server(text: &str) -> Option<Action> {
    own(text).map(Action::ToServer)
}

#[cfg(test)]
mod tests;
