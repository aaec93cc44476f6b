//! Connect: our stdin and stdout, a remote server behind. Owns every thread of this mode.
//!
//! | thread    | does                                                  | ends with                                   |
//! |-----------|-------------------------------------------------------|---------------------------------------------|
//! | main      | waits for what ends us, then stops the others          | the program                                 |
//! | `signals` | hands signals on to main                               | the program: it reads a pipe that never ends |
//! | `client`  | stdin → POST → stdout; hands stdin on when more comes   | end of input, its POST; else the program     |
//! | `server`  | connects, stream → stdout, connects again; DELETE      | a stop                                      |
//! | `listener`| the GET stream of Streamable HTTP → stdout             | the link, whose thread joins it              |
//! | `waiting` | sends what waited for a connection; one a link         | the link, whose thread joins it              |
//! | `bridge`  | reads the link of the bridge to a server of another era | the link, whose thread joins it             |
//! | `clock`   | tells the bridge the time                              | the same                                    |
//! | `post`    | sends for the bridge; as many as POSTs are under way    | the link of the bridge                       |
//! | `dial`    | resolves a name and connects                           | the deadline of the connection; the program  |
//! | `last`    | writes the last answers to a client that may not read  | a write; the program                         |
//!
//! `client`, `signals` and `dial` may be stuck in a foreign read, which nothing can end; they are not joined.

mod relay;

use crate::downstream::stdio::{Input, Output};
use crate::error::Error;
use crate::log;
use crate::protocol::era::Protocol;
use crate::restrict::{self, Needs, Wish};
use crate::system::{self, Signal, Signals, memory};
use crate::upstream::http::{Client, Remote};
use crate::upstream::remote::Inputs;
use relay::Relay;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// After its end of input a client may still want answers; it does not wait much longer than two seconds.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long our own end may take after that.
const STOP: Duration = Duration::from_millis(200);

/// What the command line says about this mode.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub remote: Remote,
    /// Requests that may be unanswered at the same time.
    pub open_requests: usize,
    /// Which revisions the client may speak.
    pub client_protocol: Protocol,
    /// What may wait for the client's input.
    pub inputs: Inputs,
    /// What is given up after the start.
    pub restrict: Wish,
}

/// What main waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    /// The client's input has ended.
    EndOfInput,
    /// The client has closed our stdin, but what it sent before cannot be read yet.
    HungUp,
    /// Nobody reads our output.
    ClientGone,
    /// We are asked to stop.
    Signal(i32),
    /// The last open request is answered; told only once the input has ended.
    Answered,
    /// A thread that is joined is about to end.
    Finished,
}

/// Runs until the client goes or a signal comes; gives the exit status.
///
/// # Errors
/// The options cannot work, or the operating system has no thread or descriptor left.
pub fn run(options: Options) -> Result<u8, Error> {
    let limit_bytes = options.remote.message_limit_bytes;
    let client = Client::new(options.remote)?;
    restrict::give_up(options.restrict, &Needs::default())?;
    let (sender, happenings) = mpsc::channel();
    let signals = system::signals().map_err(|e| failed("catch signals", &e))?;
    let input = Input::stdin(limit_bytes).map_err(|e| failed("read stdin", &e))?;
    let output = Output::stdout().map_err(|e| failed("write to stdout", &e))?;
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|e| failed("read stdin", &e))?;
    let may =
        relay::May { open_requests: options.open_requests, protocol: options.client_protocol, inputs: options.inputs };
    let (relay, wakes) = Relay::new(client, may, stdin, output, sender.clone());
    let server = {
        let (relay, sender) = (relay.clone(), sender.clone());
        let connecting = move || {
            relay.keep_connected(&wakes);
            let _ = sender.send(Happening::Finished);
        };
        start("server", connecting)?
    };
    let reading = relay.clone();
    start("client", move || reading.read_client(input))?;
    let signalled = sender.clone();
    start("signals", move || forward(signals, &signalled))?;
    let first = happenings.recv().unwrap_or(Happening::ClientGone);
    let first = match first {
        Happening::EndOfInput | Happening::HungUp => last_answers(&relay, first, &happenings),
        other => other,
    };
    Ok(stop(&relay, server, first, &sender, &happenings))
}

fn failed(what: &str, error: &io::Error) -> Error {
    Error::Failed(format!("cannot {what}: {error}"))
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    memory::begin(thread::Builder::new().name(name.into()), memory::STACK_BYTES, work)
        .map_err(|e| failed("start a thread", &e))
}

fn forward(mut signals: Signals, happenings: &Sender<Happening>) {
    loop {
        if let Some(Signal::Stop(number)) = signals.wait(None)
            && happenings.send(Happening::Signal(number)).is_err()
        {
            return;
        }
    }
}

/// Waits until all requests are read and answered, but not longer than the client may wait for us.
fn last_answers(relay: &Relay, first: Happening, happenings: &Receiver<Happening>) -> Happening {
    let until = Instant::now() + LAST_ANSWERS;
    let mut next = first;
    loop {
        match next {
            Happening::EndOfInput if relay.input_ended() => return Happening::Answered,
            Happening::EndOfInput | Happening::HungUp => {}
            other => return other,
        }
        let left = until.saturating_duration_since(Instant::now());
        match happenings.recv_timeout(left) {
            Ok(happening) => next = happening,
            Err(_) => return Happening::EndOfInput,
        }
    }
}

/// Ends the link, answers what is open, and waits for the threads that can be waited for.
fn stop(
    relay: &Arc<Relay>,
    server: JoinHandle<()>,
    first: Happening,
    sender: &Sender<Happening>,
    happenings: &Receiver<Happening>,
) -> u8 {
    let until = Instant::now() + STOP;
    let why = match first {
        Happening::Signal(number) => format!("the proxy was stopped by {}", system::signal_name(number)),
        _ => "the proxy ended with its input".to_owned(),
    };
    log::debug(format_args!("{why}"));
    let (writing, finished) = (relay.clone(), sender.clone());
    let last = memory::begin_anyway(thread::Builder::new().name("last".into()), memory::STACK_BYTES, move || {
        writing.stop(&why);
        let _ = finished.send(Happening::Finished);
    });
    let mut running = 1 + usize::from(last.is_ok());
    while running > 0 {
        match happenings.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Happening::Finished) => running -= 1,
            Ok(Happening::Signal(number)) if matches!(first, Happening::Signal(_)) => {
                return u8::try_from(128 + number).unwrap_or(1);
            }
            Ok(_) => {}
            Err(_) => return 0, // a client that does not read keeps a writer for ever
        }
    }
    relay.wait_for_writers(until); // the threads of the client may be at it
    let _ = server.join();
    if let Ok(last) = last {
        let _ = last.join();
    }
    0
}
