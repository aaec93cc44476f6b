//! What reaches a link when its server is gone, or about to go.

use super::*;
use crate::protocol::hub::Limits;
use crate::protocol::modern::share::Share;
use crate::protocol::session::Awaits;
use crate::serve::tests::{Home, Kept, call, session};
use crate::serve::{Sharing, status};

/// A link that has begun, and the way to its server.
fn begun(home: &Home) -> (Arc<Shared>, Arc<Kept>) {
    let limits = Limits { open: 10, waiting_bytes: 1 << 20 };
    let shared = home.house.link_by(Box::new(Share::new(limits)));
    let server = Arc::new(Kept::default());
    shared.begin(server.clone());
    let discover = server.id_of("server/discover").unwrap();
    shared.deliver(Message::result(&discover, r#"{"resultType":"complete","supportedVersions":["2026-07-28"]}"#));
    assert!(shared.is_ready());
    (shared, server)
}

/// How many errors its clients got as answers.
fn answers(home: &Home) -> String {
    let text = String::from_utf8(status::metrics(&home.house).body).unwrap();
    let name = r#"mcp_proxy_answers_total{server="default",kind="error"} "#;
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
}

#[test]
fn what_reaches_a_link_after_its_loss_is_answered_once_with_the_reason() {
    let home = Home::of("modern");
    let (shared, server) = begun(&home);
    let one = shared.join(Kind::Modern, |sender| session(&home.offer(), &home.house, sender, true));
    shared.lose("the server exited");
    one.take(&[call(7)], super::super::session::ONLY).unwrap();
    assert_eq!(answers(&home), "1", "its client would wait for ever");
    // What is begun afterwards does not get it: it may have side effects, and its client has its answer.
    shared.begin(server.clone());
    assert_eq!((server.id_of("tools/call"), &*answers(&home)), (None, "1"));
}

#[test]
fn a_link_does_not_end_under_a_place_that_is_kept() {
    let home = Home::of("modern");
    let (shared, server) = begun(&home);
    let stops = || *server.stops.lock().unwrap();
    let place = shared.keep_place();
    assert_eq!(shared.idle_since(), None);
    shared.retire();
    assert_eq!(stops(), 0);
    let one = shared.join(Kind::Modern, |sender| session(&home.offer(), &home.house, sender, true));
    drop(place);
    assert_eq!((stops(), shared.idle_since()), (0, None));
    one.sender().stop();
    assert_eq!(stops(), 1);
    assert!(shared.idle_since().is_some());
}

/// The thread that loses a server says first when the next is due, and then that there is none. On a machine that is busy
/// or has no memory at this moment it may be kept in between until after that.
#[test]
fn what_is_due_before_its_forerunner_is_gone_is_started_nevertheless() {
    let home = Home::with("legacy", Sharing::Shared);
    let (offer, now) = (home.offer(), Instant::now());
    let shared = offer.shared.clone().unwrap();
    let look = |after: Duration| home.house.look_after_offers(now + after);
    offer.state().failed("it exited", now);
    look(Duration::from_secs(1));
    assert_eq!(home.servers(), 1, "one is there, as far as can be seen");
    shared.lose("it exited");
    look(Duration::from_secs(1));
    assert!(home.servers() == 2 && shared.has_server(), "whoever waits for it would wait for ever");
    // One that we have ended is not missed.
    shared.stop();
    shared.lose("it was stopped");
    look(Duration::from_secs(1));
    assert!(home.servers() == 2 && !shared.has_server());
}

/// Whoever loses a server may be kept for long before it says so.
#[test]
fn a_server_that_is_lost_late_does_not_take_its_successor_with_it() {
    let home = Home::of("modern");
    let (shared, first) = begun(&home);
    shared.begin(Arc::new(Kept::default()));
    let first: Arc<dyn Sender> = first;
    shared.lose_server(&first, "it exited");
    assert!(shared.has_server(), "nobody would end the successor any more");
    shared.begin(first.clone());
    shared.lose_server(&first, "it exited");
    assert!(!shared.has_server());
}

/// A server that answers the last request as soon as it is heard.
struct Speaks(Kept);

impl Sender for Speaks {
    fn send(&self, message: &Message) -> Result<(), Undelivered> {
        self.0.send(message)
    }

    fn hear(&self, hearer: &Hearer<'_>) {
        (hearer.deliver)(Message::result(&self.0.id_of("tools/call").unwrap(), "{}"));
    }

    fn stop(&self) {}

    fn kill(&self) {}
}

#[test]
fn what_a_member_hears_is_for_whomever_the_link_says() {
    let home = Home::of("modern");
    let (shared, _) = begun(&home);
    let server = Arc::new(Speaks(Kept::default()));
    shared.begin(server.clone());
    let discover = server.0.id_of("server/discover").unwrap();
    shared.deliver(Message::result(&discover, r#"{"resultType":"complete","supportedVersions":["2026-07-28"]}"#));
    let [one, other] =
        [(); 2].map(|()| shared.join(Kind::Modern, |sender| session(&home.offer(), &home.house, sender, true)));
    one.take(&[call(7)], super::super::session::ONLY).unwrap();
    let unheard = |message: Message| panic!("{message:?} was not for the link");
    other.sender().hear(&Hearer { connection: 1, deliver: &unheard, awaits: &|| Awaits::NoMore });
    let text = String::from_utf8(status::metrics(&home.house).body).unwrap();
    assert!(text.contains(r#"mcp_proxy_answers_total{server="default",kind="result"} 1"#), "{text}");
}
