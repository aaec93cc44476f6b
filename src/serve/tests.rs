//! A house without a port, for tests of what only an interleaving shows: they hold one thread where another may come in
//! between.

use super::house::House;
use super::offer::Offer;
use super::session::Session;
use super::*;
use crate::config::Target;
use crate::protocol::http::Rules;
use crate::protocol::message::{Id, Kind, Message};
use crate::upstream::child::Command;
use crate::upstream::{Sender, Undelivered};
use std::sync::Mutex;

/// How long anything that should happen at once may take on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// Answers what begins a server, as one of the era that its first word names; keeps everything else to itself.
const SCRIPT: &str = r#"
    while IFS= read -r line; do
        id=${line#*'"id":'} id=${id%%[,\}]*}
        case $0$line in
        modern*server/discover*)
            echo '{"jsonrpc":"2.0","id":'$id',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}}' ;;
        legacy*initialize\"*)
            echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{}}}' ;;
        *server/discover* | *initialize\"*)
            echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"unknown"}}' ;;
        esac
    done"#;

/// A house with one server. Its processes end with it.
pub struct Home {
    pub house: Arc<House>,
    /// What it tells the main thread, which is not there.
    _inbox: mpsc::Receiver<Notice>,
}

impl Home {
    /// Nothing runs in it but the spare.
    pub fn of(era: &str) -> Self {
        Self::with(era, Sharing::Session)
    }

    /// Nothing runs in it but what is there before anybody asks.
    pub fn with(era: &str, sharing: Sharing) -> Self {
        let words = ["-c", SCRIPT, era].map(Into::into);
        let command =
            Command { program: "sh".into(), args: words.to_vec(), env: Vec::new(), cwd: None, pass_environment: false };
        let server = Server { name: None, target: Target::Command(command) };
        let (notices, inbox) = mpsc::channel();
        let house = House::new(Options { sharing, ..options(server) }, Rules::default(), notices);
        house.offer(&house.options.servers).unwrap();
        Self { house, _inbox: inbox }
    }

    /// Its only offer.
    pub fn offer(&self) -> Arc<Offer> {
        self.house.find_offer(None).unwrap()
    }

    /// How many processes it has.
    pub fn servers(&self) -> usize {
        self.house.state().servers.len()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.house.kill_servers();
        wait_until("the end of the servers", || self.house.is_empty());
        self.house.join();
    }
}

/// Polls `condition` until it holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A call as a modern client writes it, which its server may ask something about.
pub fn call(id: u64) -> Message {
    let meta = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}}"#;
    Message::request(&Id::number(id), "tools/call", &format!(r#"{{"name":"x","_meta":{{{meta}}}}}"#))
}

/// A way to a server that only keeps what it is sent.
#[derive(Default)]
pub struct Kept {
    pub sent: Mutex<Vec<Message>>,
    pub stops: Mutex<usize>,
}

impl Sender for Kept {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        self.sent.lock().unwrap().push(message.clone());
        Ok(())
    }

    fn stop(&self) {
        *self.stops.lock().unwrap() += 1;
    }

    fn kill(&self) {
        self.stop();
    }
}

impl Kept {
    /// The id of the request of this method that it was sent last.
    pub fn id_of(&self, wanted: &str) -> Option<Id> {
        let sent = self.sent.lock().unwrap();
        let is_it = |message: &&Message| matches!(message.kind(), Kind::Request { method, .. } if **method == *wanted);
        sent.iter().rev().find(is_it).and_then(|message| message.id().cloned())
    }
}

/// A session that nobody listens to.
pub fn session(offer: &Arc<Offer>, house: &House, sender: Arc<dyn Sender>, is_modern: bool) -> Session {
    let limits = session::Limits { is_modern, ..house.session_limits(false) };
    Session::new(String::new(), offer.clone(), sender, limits)
}

fn options(server: Server) -> Options {
    let long = Duration::from_mins(1);
    Options {
        listen: Vec::new(),
        rights: Rights { mode: 0o600, user: None, group: None },
        inherited: 0,
        tokens: None,
        token_file: None,
        auth_servers: Vec::new(),
        public_url: None,
        allow_hosts: Vec::new(),
        restrict: Wish::default(),
        servers: vec![server],
        config: None,
        allow_origins: Vec::new(),
        expose_headers: Vec::new(),
        sharing: Sharing::Session,
        base_path: String::new(),
        trusted_proxies: Vec::new(),
        session_idle: long,
        replay_bytes: 0,
        replay_age: long,
        sessions: 10,
        open_requests: 10,
        stop_timeout: Duration::from_secs(1),
        client_protocol: Protocol::Auto,
        server_protocol: Protocol::Auto,
        links: 1,
        inputs: 10,
        input_bytes: 1 << 20,
        input_timeout: long,
        limits: Limits {
            connections: 10,
            header_bytes: 1 << 14,
            body_bytes: 1 << 20,
            head_timeout: long,
            body_timeout: long,
            idle_timeout: long,
            stream_bytes: 1 << 20,
            keep_alive: long,
        },
    }
}
