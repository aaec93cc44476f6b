//! The books see what they are for: whatever is foreign, double, lost or done twice makes a run fail, and end soon.

use super::calls::{Act, Call, Inbox};
use super::ledger::{Counts, Fate, Ledger};
use std::sync::Arc;

/// Two clients with one open call each, of the same id, and the books.
fn two() -> (Arc<Ledger>, [(Inbox, Call); 2]) {
    let ledger = Arc::new(Ledger::default());
    let clients = ["one", "the other"].map(|who| {
        let mut inbox = Inbox::new(who, &ledger);
        let call = inbox.expect(&[(Act::Tell, 10)]).remove(0);
        (inbox, call)
    });
    (ledger, clients)
}

fn answer(call: &Call) -> String {
    let message: serde_json::Value = serde_json::from_str(&call.message("")).unwrap();
    let payload = &message["params"]["arguments"]["payload"];
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":{payload}}}]}}}}"#, call.id)
}

fn progress(call: &Call) -> String {
    let uid = call.uid;
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{uid},"progress":1,"message":"{uid}"}}}}"#
    )
}

/// The books of both calls with their answers and effects, but for what `breaks` does to them.
fn books(breaks: impl FnOnce(&mut [(Inbox, Call); 2], &mut String)) -> Counts {
    let (ledger, mut clients) = two();
    let mut effects = format!("{}\n{}\n", clients[0].1.uid, clients[1].1.uid);
    breaks(&mut clients, &mut effects);
    for (inbox, call) in &mut clients {
        if inbox.open.contains_key(&call.id) {
            inbox.hear(&progress(call));
            inbox.hear(&answer(call));
        }
    }
    ledger.audit(&effects);
    let counts = ledger.counts();
    assert_eq!(counts.sent, counts.results + counts.errors + counts.refused + counts.cut + counts.lost);
    assert_eq!(ledger.has_failed(), !ledger.complaints().is_empty());
    assert_eq!(
        ledger.patience() < Ledger::default().patience(),
        ledger.has_failed(),
        "a run that has failed ends soon"
    );
    let wrong = counts.lost + counts.foreign + counts.double + counts.twice;
    assert_eq!(ledger.has_failed(), wrong > 0, "{:?}", ledger.complaints());
    counts
}

#[test]
fn books_in_order_are_green() {
    let counts = books(|_, _| {});
    assert_eq!(
        (counts.results, counts.effects, counts.foreign + counts.double + counts.lost + counts.twice),
        (2, 2, 0)
    );
}

#[test]
fn swapped_answers_are_foreign() {
    let counts = books(|clients, _| {
        let [(one, first), (other, second)] = clients;
        one.hear(&answer(second));
        other.hear(&answer(first));
    });
    assert_eq!((counts.foreign, counts.lost), (2, 2));
}

#[test]
fn progress_of_another_call_is_foreign() {
    let counts = books(|clients, _| {
        let told = progress(&clients[1].1);
        clients[0].0.hear(&told);
    });
    assert_eq!((counts.foreign, counts.results), (1, 2));
}

#[test]
fn what_was_never_asked_is_foreign() {
    let counts = books(|clients, _| clients[0].0.hear(r#"{"jsonrpc":"2.0","id":77,"result":{}}"#));
    assert_eq!(counts.foreign, 1);
}

#[test]
fn a_second_answer_is_double() {
    let counts = books(|clients, _| {
        let (inbox, call) = &mut clients[0];
        inbox.hear(&answer(call));
        inbox.hear(&answer(call));
    });
    assert_eq!((counts.double, counts.results), (1, 2));
}

#[test]
fn no_answer_is_lost() {
    let counts = books(|clients, _| clients[0].0.give_up_all(Fate::Lost, "no answer in time"));
    assert_eq!((counts.lost, counts.results), (1, 1));
}

#[test]
fn an_effect_that_happens_twice_is_seen() {
    let counts = books(|clients, effects| effects.push_str(&clients[0].1.uid.to_string()));
    assert_eq!((counts.twice, counts.results), (1, 2));
}

#[test]
fn an_effect_of_what_was_refused_is_seen() {
    let (ledger, mut clients) = two();
    let (inbox, call) = &mut clients[0];
    inbox.give_up(call.id, Fate::Refused(400), "");
    assert!(!ledger.has_failed());
    ledger.audit(&format!("{}\n", call.uid));
    assert!(ledger.has_failed());
}

#[test]
fn a_result_without_its_effect_is_seen() {
    let (ledger, mut clients) = two();
    let (inbox, call) = &mut clients[0];
    inbox.hear(&answer(call));
    assert!(!ledger.has_failed());
    ledger.audit("");
    assert!(ledger.has_failed());
}
