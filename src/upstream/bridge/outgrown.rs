//! A modern client that declares more than its legacy server was told.
//!
//! Always: another session is begun only where the end of the present one costs nobody anything; a server is never told
//! less than before. It would lose its session each time that a client declares something else, and a call that does not
//! declare a capability is not asked for it anyway.

use super::{Bridge, Machine};
use crate::log;
use crate::protocol::bridge::to_legacy::{Settings, ToLegacy, legacy_capabilities};
use crate::protocol::hub::Hub;
use crate::protocol::message::Message;
use crate::protocol::modern::meta;
use serde_json::{Map, Value};

impl Bridge {
    /// Ends the link where this message needs another session. It is not lost: nothing was open.
    pub(super) fn begin_anew_for(&self, message: &Message) {
        let outgrown = {
            let mut state = self.state();
            match state.machine.outgrown_by(message) {
                None => return,
                Some(Err(why)) => {
                    return log::warning(format_args!("the server is not told what the client can: {why}"));
                }
                Some(Ok(machine)) => state.machine = machine,
            }
            state.link += 1; // what still comes over the old one is nobody's
            state.sender.take()
        };
        if let Some(sender) = outgrown {
            log::info(format_args!("the client declares more than the server was told: another session"));
            sender.stop();
        }
    }
}

impl Machine {
    /// The machine for another session, if this request declares more than a legacy server was told, and nothing of the
    /// present session is open or kept.
    fn outgrown_by(&self, request: &Message) -> Option<Result<Self, String>> {
        let Self::ToLegacy { hub, limits, settings } = self else { return None };
        let declared = meta::capabilities(request).filter(|_| request.id().is_some())?;
        let capabilities = both(&settings.capabilities, &legacy_capabilities(declared));
        if capabilities == settings.capabilities || !is_idle(hub) {
            return None;
        }
        Some(Self::to_legacy(*limits, Settings { capabilities, ..settings.clone() }))
    }
}

/// Whether its end would cost nobody anything.
fn is_idle(hub: &ToLegacy) -> bool {
    let mut owed = Vec::new();
    hub.clone().lose("", &mut owed);
    owed.is_empty() && hub.parked() == 0
}

/// What a server is told of a client that declares now this, now that: legacy capabilities, as both are.
fn both(told: &str, declared: &str) -> String {
    if told == declared {
        return told.to_owned();
    }
    let [mut all, more] = [told, declared].map(|text| serde_json::from_str(text).unwrap_or_default());
    add(&mut all, more);
    legacy_capabilities(&all.to_string())
}

fn add(to: &mut Value, more: Value) {
    let (Value::Object(to), Value::Object(more)) = (to, more) else { return };
    for (name, value) in more {
        add(to.entry(name).or_insert_with(|| Value::Object(Map::new())), value);
    }
}
