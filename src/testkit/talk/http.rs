//! HTTP/1.1 (RFC 9112) requests and responses, and bodies to fill them with.

use std::fmt::Write;

use crate::testkit::rng::Rng;

/// What asks for something over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// Path with query.
    pub path: &'a str,
    /// Host header.
    pub host: &'a str,
    /// User-Agent header.
    pub agent: &'a str,
    /// JSON to send along; empty for none.
    pub body: &'a str,
    /// Whether the connection ends with the answer.
    pub close: bool,
}

impl Request<'_> {
    /// A GET that keeps the connection.
    pub const fn get<'a>(host: &'a str, path: &'a str, agent: &'a str) -> Request<'a> {
        Request {
            method: "GET",
            path,
            host,
            agent,
            body: "",
            close: false,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nAccept: */*\r\n",
            self.method, self.path, self.host, self.agent
        );
        if self.close {
            head.push_str("Connection: close\r\n");
        }
        if !self.body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
            write!(head, "Content-Length: {}\r\n", self.body.len()).expect("a string takes all");
        }
        head.push_str("\r\n");
        head.push_str(self.body);
        head.into_bytes()
    }
}

/// A response with its length declared; `status` is code and reason.
pub fn response(status: &str, server: &str, media_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nServer: {server}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Words for bodies.
const WORDS: &[&str] = &[
    "amber", "basket", "cedar", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper",
    "kettle", "lantern", "maple", "nectar", "onyx", "pebble", "quartz", "ribbon", "saffron",
    "timber", "umber", "velvet", "willow", "yarrow", "zephyr",
];

/// Words until there are at least `len` bytes of them.
pub fn prose(rng: &mut Rng, len: usize) -> String {
    let mut text = String::with_capacity(len + 8);
    while text.len() < len {
        text.push_str(rng.pick(WORDS));
        text.push(' ');
    }
    text
}

/// A web page of about `len` bytes.
pub fn page(rng: &mut Rng, len: usize) -> String {
    let words = prose(rng, len.saturating_sub(64));
    format!(
        "<!doctype html><html><head><title>Shop</title></head><body><p>{words}</p></body></html>\n"
    )
}

/// A JSON list of things of about `len` bytes.
pub fn json(rng: &mut Rng, len: usize) -> String {
    let mut text = String::from("[");
    while text.len() < len {
        let (id, price) = (rng.below(100_000), rng.below(10_000));
        let name = rng.pick(WORDS);
        if text.len() > 1 {
            text.push(',');
        }
        let item = format!("{{\"id\":{id},\"name\":\"{name}\",\"price\":{price}}}");
        text.push_str(&item);
    }
    text.push(']');
    text
}

/// Metrics in Prometheus's text format, about `len` bytes.
pub fn metrics(rng: &mut Rng, len: usize) -> String {
    let mut text = String::from("# TYPE process_cpu_seconds_total counter\n");
    let mut number = 0;
    while text.len() < len {
        let value = rng.below(1_000_000);
        writeln!(
            text,
            "app_requests_total{{route=\"r{number}\",code=\"200\"}} {value}"
        )
        .expect("a string takes all");
        number += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let mut request = Request::get("api.shop", "/v1/items?page=2", "probe/1");
        (request.method, request.body) = ("POST", "{}");
        let bytes = request.bytes();
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut parsed = httparse::Request::new(&mut headers);
        let head = parsed.parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (parsed.method, parsed.path),
            (Some("POST"), Some("/v1/items?page=2"))
        );
        assert_eq!(&bytes[head..], b"{}");
    }

    #[test]
    fn a_response_declares_its_length() {
        let body = json(&mut Rng::new(1), 300);
        let bytes = response("200 OK", "api", "application/json", &body);
        let text = String::from_utf8(bytes).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", rest.len())));
        serde_json::from_str::<serde_json::Value>(rest).unwrap();
    }
}
