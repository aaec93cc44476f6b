//! Servers that say nothing in time when they are asked what they speak, and what comes of them.

use super::*;
use crate::serve::modern::Way;
use crate::serve::shared::Place;
use crate::serve::tests::{Home, Kept, call, wait_until};

/// What a modern server answers, and what a legacy one does.
const MODERN: &str = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}"#;
const LEGACY: &str = r#""error":{"code":-32601,"message":"unknown"}"#;

/// A house whose server was asked, and has said nothing in time.
struct Silent {
    home: Home,
    offer: Arc<Offer>,
    server: Arc<Kept>,
    asked: Arc<Shared>,
}

impl Silent {
    fn new() -> Self {
        let home = Home::of("legacy");
        let (offer, server) = (home.offer(), Arc::new(Kept::default()));
        let asked = home.house.link_by(Box::new(home.house.modern_hub(None)));
        asked.begin(server.clone());
        offer.modern.assume(asked.clone(), Instant::now());
        offer.modern.state().era = Era::Assumed;
        Self { home, offer, server, asked }
    }

    /// The server answers after all.
    fn answers(&self, what: &str) {
        let id = self.server.id_of("server/discover").unwrap();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},{what}}}"#, id.as_json());
        self.asked.deliver(Message::parse(text.into()).unwrap());
    }

    /// The link that a request gets now.
    fn link(&self) -> Arc<Shared> {
        link(&self.home.house, &self.offer)
    }

    fn era(&self) -> (&'static str, bool) {
        (self.offer.modern.eras(), self.offer.modern.is_assumed())
    }
}

/// The link that a request gets.
fn link(house: &Arc<House>, offer: &Arc<Offer>) -> Arc<Shared> {
    let way = house.modern_way(offer, &call(1), &Caller::new(&|| false));
    let Ok(Way::Link(Visit { place: Place { shared }, .. })) = &way else { panic!("no link") };
    shared.clone()
}

#[test]
fn a_modern_answer_that_comes_late_sends_those_who_come_later_straight() {
    let silent = Silent::new();
    assert_eq!(silent.era(), ("legacy", true));
    let crossed = silent.link();
    assert!(!Arc::ptr_eq(&crossed, &silent.asked));
    silent.answers(MODERN);
    assert_eq!(silent.era(), ("modern", false));
    assert!(Arc::ptr_eq(&silent.link(), &silent.asked), "it was asked, and serves");
    assert_eq!(*silent.server.stops.lock().unwrap(), 0);
    // Who is on a link over the bridge stays there; it ends soon after the last has gone.
    assert!(crossed.has_server() && !crossed.is_stopped());
    silent.home.house.look_after_links(Instant::now() + SPARE_LINK);
    assert!(crossed.is_stopped());
}

#[test]
fn a_legacy_answer_that_comes_late_makes_it_known() {
    let silent = Silent::new();
    let crossed = silent.link();
    silent.answers(LEGACY);
    assert_eq!(silent.era(), ("legacy", false));
    assert_ne!(*silent.server.stops.lock().unwrap(), 0, "what was asked is of no more use");
    assert!(Arc::ptr_eq(&silent.link(), &crossed));
}

#[test]
fn what_a_crossing_finds_out_is_not_held_up_by_what_is_late() {
    let silent = Silent::new();
    silent.offer.modern.learn_crossed();
    assert_eq!(silent.era(), ("modern", false));
    let straight = silent.home.house.straight(&silent.offer).unwrap();
    assert!(!Arc::ptr_eq(&straight, &silent.asked), "it may hang, and everybody would wait for it");
    silent.home.house.look_after_links(Instant::now());
    assert!(silent.offer.modern.state().late.is_none(), "it is known without it");
    assert_ne!(*silent.server.stops.lock().unwrap(), 0);
}

#[test]
fn what_has_answered_when_a_crossing_finds_out_is_the_link() {
    let silent = Silent::new();
    silent.answers(MODERN);
    silent.offer.modern.learn_crossed();
    let straight = silent.home.house.straight(&silent.offer).unwrap();
    assert!(Arc::ptr_eq(&straight, &silent.asked), "another one would have to begin first");
}

#[test]
fn a_server_that_ends_instead_of_answering_is_asked_again_now_and_then() {
    let silent = Silent::new();
    silent.asked.lose("it crashed");
    let _ = silent.link();
    assert!(silent.offer.modern.state().late.is_none(), "it has been asked just now");
    assert_eq!(silent.era(), ("legacy", true));
    silent.home.house.ask_again(&silent.offer, Instant::now() + ASK_AGAIN);
    wait_until("its answer", || silent.era() == ("legacy", false));
}

#[test]
fn a_server_that_never_answers_goes_with_the_last_link_over_the_bridge() {
    let silent = Silent::new();
    let _ = silent.link();
    let idle = silent.home.house.options.session_idle;
    silent.home.house.look_after_links(Instant::now());
    assert!(silent.offer.modern.state().late.is_some());
    silent.home.house.look_after_links(Instant::now() + idle * 2);
    assert!(silent.offer.modern.state().late.is_none());
    assert_ne!(*silent.server.stops.lock().unwrap(), 0);
    assert_eq!(silent.era(), ("legacy", true));
}

#[test]
fn a_server_that_never_answers_does_not_stay_without_a_link_over_the_bridge() {
    let silent = Silent::new();
    silent.home.house.look_after_links(Instant::now());
    assert!(silent.offer.modern.state().late.is_some());
    silent.home.house.look_after_links(Instant::now() + silent.home.house.options.session_idle);
    assert!(silent.offer.modern.state().late.is_none());
    assert_ne!(*silent.server.stops.lock().unwrap(), 0);
}

#[test]
fn who_waits_for_a_link_goes_straight_when_the_answer_comes() {
    let silent = Silent::new();
    let busy = silent.home.house.modern_way(&silent.offer, &call(1), &Caller::new(&|| false));
    std::thread::scope(|scope| {
        let (house, offer) = (&silent.home.house, &silent.offer);
        let waiting = scope.spawn(|| link(house, offer));
        let modern = &offer.modern;
        wait_until("somebody waits", || modern.waiting.load(std::sync::atomic::Ordering::SeqCst) == 1);
        silent.answers(MODERN);
        modern.hear_late();
        assert!(Arc::ptr_eq(&waiting.join().unwrap(), &silent.asked));
    });
    assert!(busy.is_ok());
}
