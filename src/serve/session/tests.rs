//! What reaches a session when it is over, or about to be.

use super::*;
use crate::serve::tests::{Home, Kept, call, session};

/// What becomes of a request that was found to be for a session which ended before it was taken: the thread that
/// brings it may be kept for long in between, by a machine that is busy or has no memory at this moment.
#[test]
fn what_is_said_to_a_session_that_has_ended_is_refused() {
    let home = Home::of("legacy");
    let server = Arc::new(Kept::default());
    let one = session(&home.offer(), &home.house, server.clone(), false);
    one.take(&[call(1)], ONLY).unwrap();
    assert!(one.end("the server exited") && !one.end("again"));
    let note = Message::parse(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_vec()).unwrap();
    for (messages, stream) in [(vec![call(2)], ONLY), (vec![call(3), call(4)], ONLY), (vec![note], StreamId(u64::MAX))]
    {
        let refusal = one.take(&messages, stream).expect_err("its client would wait for an answer for ever");
        assert_eq!(refusal.status, StatusCode::NOT_FOUND, "{messages:?}");
    }
    assert_eq!(server.sent.lock().unwrap().len(), 1, "nothing that is refused is done");
}

#[test]
fn nothing_is_kept_of_a_request_whose_answer_nobody_gets() {
    let home = Home::of("legacy");
    let one = Arc::new(session(&home.offer(), &home.house, Arc::new(Kept::default()), false));
    for id in 1..=3 {
        one.take(&[call(id)], StreamId(id)).unwrap();
        one.book().requests.close(StreamId(id));
    }
    for (id, left) in [(2, 2), (1, 1), (3, 0)] {
        assert!(one.deliver(&Message::result(&Id::number(id), "{}")).is_none());
        assert_eq!(one.book().times.len(), left);
    }
}

/// A session may end between the decision about a batch and the answers that we give to a part of it.
#[test]
fn the_end_of_a_session_leaves_room_for_our_own_answers_to_a_batch() {
    let home = Home::of("legacy");
    let one = session(&home.offer(), &home.house, Arc::new(Kept::default()), false);
    for (opening, left) in [(true, 1), (false, 0)] {
        let mut book = one.book();
        book.ended = false;
        book.requests.from_client(&call(1), StreamId(7));
        let channel =
            Channel { stream: None, resumable: false, begun: false, opening, primes: false, batch: Some(Vec::new()) };
        book.channels.insert(StreamId(7), channel);
        drop(book);
        one.end("the server exited");
        assert_eq!(one.book().channels.0.len(), left, "{opening}");
    }
}
