//! MongoDB's wire protocol: OP_MSG with one BSON document each way.

use std::time::Duration;

use super::tcp::Session;
use crate::testkit::scene::Scene;

/// The port.
pub const PORT: u16 = 27_017;

const OP_MSG: i32 = 2013;

/// A value in a document.
#[derive(Clone, Debug)]
pub enum Value {
    /// A double.
    Double(f64),
    /// A string.
    Text(String),
    /// A document.
    Document(Document),
    /// A list of documents.
    List(Vec<Document>),
    /// A truth value.
    Bool(bool),
    /// A 32-bit integer.
    Int(i32),
}

/// Names and values, in order.
pub type Document = Vec<(&'static str, Value)>;

/// A command and its reply.
pub fn ask(scene: &mut Scene, session: &mut Session, command: &Document, reply: &Document) {
    let id = scene.rng.below(1 << 20) as i32;
    let question = message(id, 0, command);
    let answer = message(id + 7, id, reply);
    session.ask(scene, &question, Duration::from_micros(500), &answer);
}

/// How drivers begin: asking what kind of server it is.
pub fn hello(scene: &mut Scene, session: &mut Session, driver: &str) {
    let client = vec![
        (
            "driver",
            Value::Document(vec![("name", Value::Text(driver.into()))]),
        ),
        (
            "os",
            Value::Document(vec![("type", Value::Text("Linux".into()))]),
        ),
    ];
    let command = vec![
        ("hello", Value::Int(1)),
        ("helloOk", Value::Bool(true)),
        ("client", Value::Document(client)),
        ("$db", Value::Text("admin".into())),
    ];
    let reply = vec![
        ("isWritablePrimary", Value::Bool(true)),
        ("maxBsonObjectSize", Value::Int(16_777_216)),
        ("maxWireVersion", Value::Int(21)),
        ("ok", Value::Double(1.0)),
    ];
    ask(scene, session, &command, &reply);
}

/// What a server says to strangers.
pub fn unauthorized(command: &str) -> Document {
    vec![
        ("ok", Value::Double(0.0)),
        (
            "errmsg",
            Value::Text(format!("command {command} requires authentication")),
        ),
        ("code", Value::Int(13)),
        ("codeName", Value::Text("Unauthorized".into())),
    ]
}

fn message(id: i32, response_to: i32, document: &Document) -> Vec<u8> {
    let body = bson(document);
    let len = (16 + 4 + 1 + body.len()) as i32;
    let mut out: Vec<u8> = [len, id, response_to, OP_MSG]
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect();
    // No flags; one section of kind 0, the document.
    out.extend_from_slice(&[0; 5]);
    out.extend(body);
    out
}

fn bson(document: &Document) -> Vec<u8> {
    framed(document.iter().map(|(name, value)| element(name, value)))
}

fn element(name: &str, value: &Value) -> Vec<u8> {
    let (kind, content) = match value {
        Value::Double(number) => (1, number.to_le_bytes().to_vec()),
        Value::Text(text) => {
            let len = (text.len() as i32 + 1).to_le_bytes();
            (2, [&len, text.as_bytes(), &[0]].concat())
        }
        Value::Document(document) => (3, bson(document)),
        Value::List(list) => {
            let items = list.iter().enumerate().map(|(number, document)| {
                element(&number.to_string(), &Value::Document(document.clone()))
            });
            (4, framed(items))
        }
        Value::Bool(truth) => (8, vec![u8::from(*truth)]),
        Value::Int(number) => (16, number.to_le_bytes().to_vec()),
    };
    [&[kind], name.as_bytes(), &[0], &content].concat()
}

fn framed(elements: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let content: Vec<u8> = elements.flatten().collect();
    let len = (content.len() as i32 + 5).to_le_bytes();
    [&len, content.as_slice(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_match_the_specifications_example() {
        // bsonspec.org: {"hello": "world"}
        let bytes = bson(&vec![("hello", Value::Text("world".into()))]);
        assert_eq!(bytes, b"\x16\0\0\0\x02hello\0\x06\0\0\0world\0\0");
    }

    #[test]
    fn a_message_counts_all_of_itself() {
        let bytes = message(1, 0, &unauthorized("listDatabases"));
        assert_eq!(bytes[..4], (bytes.len() as u32).to_le_bytes());
    }
}
