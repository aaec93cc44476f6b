//! Messages cross byte for byte, in both directions, through both modes: spacing, order and spelling of members,
//! escapes, numbers and ids stay what they were, and members that nobody knows survive. Only white space around
//! a message goes, and a line break between two tokens becomes a space where a message has to be one line.

mod support;

use std::fs;
use std::path::Path;
use support::client::Client;
use support::{Folder, Process, SOON, wait_until};

/// What a client says, and what the server then says.
struct Turn {
    /// A message of the client.
    said: &'static str,
    /// The lines of the server that follow it.
    answers: &'static [&'static str],
}

const CONVERSATION: [Turn; 9] = [
    Turn {
        said: r#"{ "id" : 0 , "params":{"clientInfo":{"version":"1","name":"\u0074est"}, "protocolVersion":"2024-11-05","capabilities":{ }},"method":"initialize","jsonrpc":"2.0"}"#,
        answers: &[
            r#"{"result" : {"serverInfo":{"name":"s","version":"1"},"capabilities":{},"protocolVersion":"2024-11-05", "new":[ 1,2 ]} ,"id":0,   "jsonrpc":"2.0"}"#,
        ],
    },
    Turn { said: r#"{"method":"notifications\/initialized","jsonrpc":"2.0","x":null}"#, answers: &[] },
    Turn {
        said: r#"{"jsonrpc":"2.0","id":1152921504606846976,"method":"odd/one","params":{"n":[1.10,1E+2,-0.0,123456789012345678901234567890],"n":"twice"},"":[]}"#,
        answers: &[
            r#"{"jsonrpc":"2.0","method":"notifications/odd","params":[ "by position" ]}"#,
            r#"{"jsonrpc":"2.0","id":"s-\u0031","method":"odd/question","params":{"q":"\"\\\/\b\f\n\r\t"},"y":{}}"#,
            "{\"jsonrpc\":\"2.0\",\t\"id\":1152921504606846976,\"result\":{\"a\":\"\\u00e9\\ud83d\\ude00 é😀\u{2028}\u{85}\u{feff}\u{7f}\"},\"meta\":{\"x\":0.10}}",
        ],
    },
    Turn { said: r#"{"z":1,"id":"s-\u0031","result":{ "ok":1e0 },"jsonrpc":"2.0"}"#, answers: &[] },
    Turn { said: r#"{"jsonrpc":"2.0","id":1,"method":"same/digits"}"#, answers: &[] },
    Turn { said: r#"{"jsonrpc":"2.0","id":"1","method":"same/digits"}"#, answers: &[] },
    Turn {
        said: r#"{"jsonrpc":"2.0","id":1.0,"method":"same/digits"}"#,
        answers: &[
            r#"{"jsonrpc":"2.0","id":"1","result":{"to":"the string"}}"#,
            r#"{"jsonrpc":"2.0","id":1.0,"result":{"to":"the fraction"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"to":"the integer"}}"#,
        ],
    },
    Turn {
        said: r#"{"jsonrpc":"2.0","id":"é\u00e9","method":"fails"}"#,
        answers: &[
            r#"{"error":{"message":"no","code":-32601.0,"data":[null],"more":1},"id":"é\u00e9","jsonrpc":"2.0"}"#,
        ],
    },
    Turn { said: r#"{"jsonrpc":"2.0","method":"notifications/last","params":{}}"#, answers: &[] },
];

/// How many lines the server has said after this turn.
fn answered(turn: usize) -> usize {
    CONVERSATION[..=turn].iter().map(|turn| turn.answers.len()).sum()
}

/// Writes down every line that it reads in the folder `$0`, and answers the n-th with the file `answer-n`.
const SERVER: &str = r#"
n=0
while IFS= read -r line; do
    n=$((n + 1))
    cat "$0/answer-$n"
    printf '%s\n' "$line" >>"$0/received"
done
"#;

#[test]
fn bytes_cross_serve_unchanged() {
    let folder = Folder::new();
    let proxy = serve(&folder);
    let client = Client::open(&proxy.address());
    for (turn, said) in CONVERSATION.iter().enumerate() {
        assert_eq!(client.post(said.said), 202, "{}", said.said);
        wait_until("the message", SOON, || received(folder.path()).len() > turn);
        // An answer to a question that has not arrived yet would be nobody's.
        wait_until("the answers", SOON, || client.messages().len() >= answered(turn));
    }
    assert_eq!(client.messages(), answers());
    assert_eq!(received(folder.path()), CONVERSATION.map(|turn| turn.said.to_owned()));
}

#[test]
fn bytes_cross_connect_and_serve_unchanged() {
    let folder = Folder::new();
    let proxy = serve(&folder);
    let mut client = Process::start(support::proxy().arg(format!("http://{}/sse", proxy.address())));
    for (turn, said) in CONVERSATION.iter().enumerate() {
        client.write(format!("{}\n", said.said).as_bytes());
        wait_until("the message", SOON, || received(folder.path()).len() > turn);
        let _ = client.lines(answered(turn));
    }
    let lines = client.lines(answers().len());
    let texts: Vec<_> = lines.into_iter().map(|line| String::from_utf8(line).expect("UTF-8")).collect();
    assert_eq!(texts, answers().iter().map(|answer| format!("{answer}\n")).collect::<Vec<_>>());
    assert_eq!(received(folder.path()), CONVERSATION.map(|turn| turn.said.to_owned()));
}

#[test]
fn a_message_on_several_lines_becomes_one_line() {
    let folder = Folder::new();
    let proxy = serve(&folder);
    let client = Client::open(&proxy.address());
    assert_eq!(client.post("\r\n {\"jsonrpc\":\"2.0\",\n\t\"method\":\r\n\"a\\nb\"\n}\n\n"), 202);
    wait_until("the message", SOON, || !received(folder.path()).is_empty());
    assert_eq!(received(folder.path()), ["{\"jsonrpc\":\"2.0\", \t\"method\":  \"a\\nb\" }"]);
}

/// Serves the server that writes down what it reads in `folder`.
fn serve(folder: &Folder) -> Process {
    for (turn, said) in CONVERSATION.iter().enumerate() {
        let lines = [said.answers, &[""]].concat().join("\n");
        let _ = folder.file(&format!("answer-{}", turn + 1), lines);
    }
    Process::start(support::proxy().args(["--port", "0", "--", "sh", "-c", SERVER]).arg(folder.path()))
}

/// The lines that the server has read so far.
fn received(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("received")).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Everything that the server says, in its order.
fn answers() -> Vec<&'static str> {
    CONVERSATION.iter().flat_map(|turn| turn.answers).copied().collect()
}
