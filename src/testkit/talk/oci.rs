//! Calls to an image registry (OCI distribution specification 1.1), as skopeo and curl make them.

use std::time::Duration;

use super::http::{self, Request};
use super::tcp::Session;
use crate::testkit::scene::Scene;

const SERVER: &str = "registry/2.8";
const THINK: Duration = Duration::from_millis(4);

/// Somebody who calls a registry.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The registry's name and port.
    pub host: &'a str,
    /// User-Agent.
    pub agent: &'a str,
}

impl Caller<'_> {
    /// Asks for something, and gets `status` with a body of `len` bytes.
    fn call(
        &self,
        scene: &mut Scene,
        session: &mut Session,
        (method, path): (&str, &str),
        body: &str,
        (status, len): (&str, usize),
    ) {
        let request = Request {
            method,
            body,
            ..Request::get(self.host, path, self.agent)
        };
        let answer = http::json(&mut scene.rng, len);
        let answer = if method == "HEAD" {
            format!("HTTP/1.1 {status}\r\nServer: {SERVER}\r\nContent-Length: {len}\r\n\r\n")
                .into_bytes()
        } else {
            http::response(status, SERVER, "application/json", &answer)
        };
        session.ask(scene, &request.bytes(), THINK, &answer);
    }

    /// Asks what the registry speaks.
    pub fn ping(&self, scene: &mut Scene, session: &mut Session) {
        self.call(scene, session, ("GET", "/v2/"), "", ("200 OK", 2));
    }

    /// Asks for all repositories.
    pub fn catalogue(&self, scene: &mut Scene, session: &mut Session) {
        self.call(scene, session, ("GET", "/v2/_catalog"), "", ("200 OK", 180));
    }

    /// Asks for the tags of a repository.
    pub fn tags(&self, scene: &mut Scene, session: &mut Session, repository: &str) {
        let path = format!("/v2/{repository}/tags/list");
        self.call(scene, session, ("GET", &path), "", ("200 OK", 120));
    }

    /// Fetches an image: its manifest, its configuration, one layer of `len` bytes.
    pub fn pull(
        &self,
        scene: &mut Scene,
        session: &mut Session,
        (repository, tag): (&str, &str),
        len: usize,
    ) {
        let manifest = format!("/v2/{repository}/manifests/{tag}");
        self.call(scene, session, ("GET", &manifest), "", ("200 OK", 620));
        for size in [1400, len] {
            let path = format!("/v2/{repository}/blobs/sha256:{}", scene.rng.hex(64));
            self.call(scene, session, ("GET", &path), "", ("200 OK", size));
        }
    }

    /// Sends an image: one layer of `len` bytes, its configuration, and the manifest that names it.
    pub fn push(
        &self,
        scene: &mut Scene,
        session: &mut Session,
        (repository, tag): (&str, &str),
        len: usize,
    ) {
        for size in [len, 1400] {
            let blob = format!("/v2/{repository}/blobs/sha256:{}", scene.rng.hex(64));
            self.call(scene, session, ("HEAD", &blob), "", ("404 Not Found", 0));
            let uploads = format!("/v2/{repository}/blobs/uploads/");
            self.call(scene, session, ("POST", &uploads), "", ("202 Accepted", 2));
            let upload = format!("{uploads}{}?digest=sha256", scene.rng.hex(32));
            let layer = http::json(&mut scene.rng, size);
            self.call(scene, session, ("PUT", &upload), &layer, ("201 Created", 2));
        }
        let manifest = format!("/v2/{repository}/manifests/{tag}");
        let body = http::json(&mut scene.rng, 600);
        self.call(
            scene,
            session,
            ("PUT", &manifest),
            &body,
            ("201 Created", 2),
        );
    }
}
