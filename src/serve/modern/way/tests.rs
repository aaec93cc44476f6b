//! Threads that meet while a link is looked for.

use super::super::era::{Era, PROBE, Probing};
use super::*;
use crate::serve::session::ONLY;
use crate::serve::tests::{Home, call, session, wait_until};
use std::thread;

/// A client that waits for as long as it takes.
fn stays() -> Caller<'static> {
    Caller::new(&|| false)
}

/// The link over the bridge that a request gets.
fn crosses(house: &Arc<House>, offer: &Arc<Offer>, request: &Message) -> Result<Visit, Error> {
    house.crossing(offer, request, &stays()).map(|visit| visit.expect("the server is a legacy one"))
}

#[test]
fn everything_is_said_as_a_legacy_server_is_told_it() {
    assert_eq!(legacy_capabilities(EVERYTHING), EVERYTHING);
}

#[test]
fn a_probe_keeps_the_link_that_a_legacy_client_has_made_meanwhile() {
    let home = Home::of("modern");
    let offer = home.offer();
    offer.modern.state().era = Era::Probing; // a modern client has come first
    let crossed = home.house.straight(&offer).unwrap();
    let (era, _) = home.house.probe(&offer, &call(1)).unwrap();
    assert_eq!(era, Era::Modern);
    let straight = offer.modern.state().straight.clone().unwrap();
    assert!(Arc::ptr_eq(&straight, &crossed), "the link of the legacy client is lost");
    assert!(crossed.has_server() && !crossed.is_stopped());
    wait_until("the end of the probe's own server", || home.servers() == 2); // the link's and the spare
}

#[test]
fn a_crossing_that_fails_says_nothing_while_a_probe_is_under_way() {
    let home = Home::of("legacy");
    let offer = home.offer();
    let refused_while = |era| {
        offer.modern.state().era = era;
        // What is refused is not kept, so that the next link is a fresh one.
        let is_gone = || home.house.straight(&offer).is_ok() && offer.modern.state().straight.is_none();
        wait_until("the refusal", is_gone);
        offer.modern.state().era
    };
    assert_eq!(refused_while(Era::Probing), Era::Probing, "two would probe at once");
    assert_eq!(refused_while(Era::Modern), Era::Unknown);
}

#[test]
fn a_server_that_turns_into_a_legacy_one_is_found_out_whoever_learns_it_first() {
    let home = Home::of("legacy");
    let offer = home.offer();
    {
        let mut state = offer.modern.state();
        (state.era, state.serves_legacy) = (Era::Modern, Some(false)); // what it was before
    }
    let refused = home.house.straight(&offer).unwrap();
    // The main thread is told at once, and looks before anybody asks for anything else.
    assert!(matches!(refused.wait(PROBE), Begun::Refused(_)));
    home.house.look_after_links(Instant::now());
    let now_known = || {
        let state = offer.modern.state();
        (state.era, state.serves_legacy, state.straight.is_some())
    };
    assert_eq!(now_known(), (Era::Unknown, None, false));
    let Ok(Way::Link(visit)) = home.house.modern_way(&offer, &call(1), &stays()) else { panic!("no link") };
    assert!(!Arc::ptr_eq(&visit.place.shared, &refused));
    assert_eq!(now_known(), (Era::Legacy, None, false));
}

#[test]
fn a_link_made_for_an_offer_that_was_just_removed_ends() {
    let home = Home::of("legacy");
    let offer = home.offer();
    home.house.offer(&[]).unwrap();
    // A request that had found the offer before finds its way after.
    offer.modern.state().era = Era::Legacy;
    let visit = crosses(&home.house, &offer, &call(1)).unwrap();
    let shared = visit.place.shared.clone();
    assert_eq!(shared.wait(PROBE), Begun::Ready);
    home.house.look_after_links(Instant::now());
    assert!(shared.has_server() && home.servers() > 0, "its client is on its way");
    drop(visit);
    wait_until("the end of the link", || home.servers() == 0);
}

#[test]
fn a_link_with_a_place_that_is_kept_is_not_idle() {
    let home = Home::of("legacy");
    let offer = home.offer();
    offer.modern.state().era = Era::Legacy;
    let discover = Message::request(&crate::protocol::message::Id::number(1), "tools/list", "{}");
    let visit = crosses(&home.house, &offer, &discover).unwrap();
    let late = Instant::now() + home.house.options.session_idle * 2;
    home.house.look_after_links(late);
    assert_eq!(offer.modern.links().len(), 1, "the link ends under a client that is about to join");
    drop(visit);
    home.house.look_after_links(late + home.house.options.session_idle * 2);
    assert!(offer.modern.links().is_empty());
    wait_until("the end of its server", || home.servers() == 1);
}

#[test]
fn a_session_that_ends_while_it_crosses_is_not_left_on_the_link() {
    let home = Home::of("modern");
    let offer = home.offer();
    let begin = || {
        let server = home.house.take_server(&offer).unwrap();
        let one = Arc::new(session(&offer, &home.house, server.sender.clone(), false));
        assert!(server.owner.give_to(&Of::Session(one.clone())));
        one
    };
    // It had ended before.
    let one = begin();
    one.end("its client is gone");
    home.house.cross(&one);
    assert!(offer.modern.state().straight.is_none() && !one.is_bridged());
    // It ends while the link begins.
    let link = home.house.link_by(Box::new(home.house.modern_hub(None)));
    offer.modern.state().straight = Some(link.clone());
    let two = begin();
    let others = Arc::strong_count(&link);
    let turn = link.turn_to_begin().unwrap();
    thread::scope(|scope| {
        let crossing = scope.spawn(|| home.house.cross(&two));
        wait_until("the crossing", || Arc::strong_count(&link) > others);
        two.end("its client is gone");
        drop(turn);
        crossing.join().unwrap();
    });
    assert_eq!(link.counts().0, 0, "nobody would ever take it off the link");
}

#[test]
fn a_process_that_ends_before_it_is_begun_is_lost_at_once() {
    let home = Home::of("legacy");
    let offer = home.offer();
    let server = home.house.take_server(&offer).unwrap();
    server.sender.kill();
    wait_until("its end", || matches!(server.owner.get(), Of::Ended));
    let shared = home.house.link_by(Box::new(home.house.bridge(&home.offer(), &call(1), "{}".into()).unwrap()));
    server.begin(&shared);
    assert_eq!(shared.wait(PROBE), Begun::Lost);
    assert!(!shared.has_server(), "the next request begins another");
}

#[test]
fn who_waits_for_a_link_learns_that_we_stop() {
    let home = Home::of("legacy");
    let offer = home.offer();
    offer.modern.state().era = Era::Legacy;
    let _busy = crosses(&home.house, &offer, &call(1)).unwrap();
    thread::scope(|scope| {
        let house = &home.house;
        let waiting = scope.spawn(|| crosses(house, &offer, &call(2)).map(drop).unwrap_err().to_string());
        wait_until("somebody waits", || offer.modern.waiting.load(std::sync::atomic::Ordering::SeqCst) == 1);
        offer.modern.close();
        assert_eq!(waiting.join().unwrap(), STOPPING);
    });
}

#[test]
fn a_probe_that_panics_leaves_nobody_waiting() {
    let home = Home::of("modern");
    let offer = home.offer();
    offer.modern.state().era = Era::Probing;
    let (begun, may_panic) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let modern = &offer.modern;
        let probe = scope.spawn(move || {
            let _probing = Probing { modern, found: Era::Unknown };
            may_panic.recv().unwrap();
            std::panic::resume_unwind(Box::new("a defect")); // without a word on stderr
        });
        let waiting =
            scope.spawn(|| home.house.era(&offer, &call(1), &stays()).map(|(era, _)| era).map_err(|why| why.reason));
        begun.send(()).unwrap();
        assert!(probe.join().is_err());
        assert_eq!(waiting.join().unwrap(), Ok(Era::Modern));
    });
}

#[test]
fn who_waits_for_a_link_for_too_long_is_refused_and_not_put_with_another() {
    let home = Home::of("legacy");
    let offer = home.offer();
    offer.modern.state().era = Era::Legacy;
    let busy = crosses(&home.house, &offer, &call(1)).unwrap();
    assert_eq!(home.house.options.links, 1);
    let Err(refusal) = home.house.modern_way(&offer, &call(2), &stays()) else { panic!("it is with another's call") };
    assert_eq!((refusal.status.as_u16(), &*refusal.reason), (503, ALL_BUSY));
    assert!(
        home.house
            .crossing(&offer, &call(2), &Caller::new(&|| true))
            .is_err_and(|why| why.to_string().contains("gone"))
    );
    drop(busy);
    assert!(crosses(&home.house, &offer, &call(2)).is_ok());
}

/// Sends a request over the link that is found for it, on a session of its own.
fn sends(home: &Home, request: &Message) -> (Arc<Session>, Arc<Shared>) {
    let offer = home.offer();
    let visit = crosses(&home.house, &offer, request).unwrap();
    let shared = visit.place.shared.clone();
    assert_eq!(shared.wait(PROBE), Begun::Ready);
    let one = shared.join(hub::Kind::Modern, |sender| session(&offer, &home.house, sender, true));
    one.take(std::slice::from_ref(request), ONLY).unwrap();
    (one, shared)
}

#[test]
fn a_link_that_owes_the_answer_to_a_cancelled_call_is_not_for_the_next_and_ends() {
    let home = Home::of("legacy");
    let offer = home.offer();
    offer.modern.state().era = Era::Legacy;
    let (one, first) = sends(&home, &call(1));
    one.sender().stop();
    assert!(first.is_haunted());
    // As many as may work at once do not; the server that may work on what nobody wants is not counted.
    assert_eq!(home.house.options.links, 1);
    let (two, second) = sends(&home, &call(2));
    assert!(!Arc::ptr_eq(&first, &second), "nobody could tell whose a question is");
    assert_eq!(offer.modern.links().len(), 2);
    home.house.look_after_links(Instant::now() + SPARE_LINK);
    assert!(first.is_stopped() && !second.is_stopped(), "the first of its kind is kept only if calls may go over it");
    assert_eq!(offer.modern.links().len(), 1);
    wait_until("the end of its server", || !first.has_server());
    assert!(two.sender().send(&call(3)).is_ok());
}

#[test]
fn a_link_whose_server_answers_nothing_after_a_cancelled_call_gives_way_to_another() {
    let home = Home::of("legacy");
    let offer = home.offer();
    offer.modern.state().era = Era::Legacy;
    let list = |id| Message::request(&crate::protocol::message::Id::number(id), "tools/list", "{}");
    let (one, first) = sends(&home, &list(1));
    let late = || Instant::now() + SPARE_LINK;
    let forget = |now| offer.modern.forget_stuck(now, SPARE_LINK);
    forget(late());
    assert_eq!(offer.modern.links().len(), 1, "a client that waits long shows nothing");
    one.sender().stop();
    forget(late());
    assert_eq!(offer.modern.links().len(), 1, "nor does a server that does not answer what was cancelled");
    let (two, again) = sends(&home, &list(2));
    assert!(Arc::ptr_eq(&first, &again));
    forget(Instant::now());
    assert_eq!(offer.modern.links().len(), 1, "it may be about to answer");
    forget(late());
    assert!(offer.modern.links().is_empty() && first.has_server(), "its client may wait as long as it likes");
    let (_three, other) = sends(&home, &list(3));
    assert!(!Arc::ptr_eq(&first, &other));
    two.sender().stop();
    wait_until("the end of its server", || !first.has_server());
}
