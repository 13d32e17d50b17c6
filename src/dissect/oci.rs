//! What a call to a container registry asks for (OCI distribution specification 1.1), as far as method and path tell.

use super::HttpRequest;

/// A call to a registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OciCall<'a> {
    /// The repository, `library/nginx`; empty for calls about the registry as a whole.
    pub repository: &'a str,
    /// Tag, digest, or an upload's session, where one is named.
    pub reference: Option<&'a str>,
    /// What is asked for.
    pub kind: OciKind,
}

/// The kinds of calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OciKind {
    /// Whether the registry speaks this protocol, and wants a login.
    Ping,
    /// The names of all repositories.
    Catalogue,
    /// The tags of a repository.
    Tags,
    /// What refers to an image: signatures, lists of its parts.
    Referrers,
    /// Whether an image is there.
    CheckManifest,
    /// An image's description: the first step of a pull.
    GetManifest,
    /// An image is given a name: the last step of a push.
    PutManifest,
    /// An image is removed.
    DeleteManifest,
    /// Whether a layer is there.
    CheckBlob,
    /// A layer is fetched.
    GetBlob,
    /// A layer is removed.
    DeleteBlob,
    /// A layer is about to be sent, or taken over from another repository.
    StartUpload,
    /// A piece of a layer, or how far it has come.
    ContinueUpload,
    /// A layer is complete.
    FinishUpload,
    /// A layer is given up.
    CancelUpload,
}

impl OciKind {
    /// Whether it fetches parts of an image.
    pub const fn pulls(self) -> bool {
        matches!(self, Self::GetManifest | Self::GetBlob)
    }

    /// Whether it adds parts of an image.
    pub const fn pushes(self) -> bool {
        matches!(
            self,
            Self::PutManifest | Self::StartUpload | Self::ContinueUpload | Self::FinishUpload
        )
    }

    /// Whether it takes parts of an image away.
    pub const fn deletes(self) -> bool {
        matches!(self, Self::DeleteManifest | Self::DeleteBlob)
    }
}

impl HttpRequest {
    /// The call to a container registry that this is, if it is one.
    pub fn oci(&self) -> Option<OciCall<'_>> {
        oci(&self.method, &self.path)
    }
}

/// Reads a method and a path without query.
fn oci<'a>(method: &str, path: &'a str) -> Option<OciCall<'a>> {
    use OciKind::{
        CancelUpload, Catalogue, CheckBlob, CheckManifest, ContinueUpload, DeleteBlob,
        DeleteManifest, FinishUpload, GetBlob, GetManifest, Ping, PutManifest, Referrers,
        StartUpload, Tags,
    };
    let rest = path.strip_prefix("/v2")?;
    let reads = matches!(method, "GET" | "HEAD");
    let whole = |kind| OciCall {
        repository: "",
        reference: None,
        kind,
    };
    match rest {
        "" | "/" => return reads.then(|| whole(Ping)),
        "/_catalog" => return reads.then(|| whole(Catalogue)),
        _ => {}
    }
    let rest = rest.strip_prefix('/')?;
    // A repository's name has any number of parts; what comes last tells.
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return named(repository, None, reads.then_some(Tags)?);
    }
    if let Some((repository, session)) = rest.rsplit_once("/blobs/uploads") {
        let session = session.strip_prefix('/').filter(|name| !name.is_empty());
        let kind = match (method, session) {
            ("POST", None) => StartUpload,
            ("PATCH" | "GET", Some(_)) => ContinueUpload,
            ("PUT", Some(_)) => FinishUpload,
            ("DELETE", Some(_)) => CancelUpload,
            _ => return None,
        };
        return named(repository, session, kind);
    }
    let (head, reference) = rest.rsplit_once('/')?;
    let (repository, what) = head.rsplit_once('/')?;
    let kind = match (what, method) {
        ("manifests", "HEAD") => CheckManifest,
        ("manifests", "GET") => GetManifest,
        ("manifests", "PUT") => PutManifest,
        ("manifests", "DELETE") => DeleteManifest,
        ("blobs", "HEAD") => CheckBlob,
        ("blobs", "GET") => GetBlob,
        ("blobs", "DELETE") => DeleteBlob,
        ("referrers", "GET") => Referrers,
        _ => return None,
    };
    named(
        repository,
        Some(reference).filter(|it| !it.is_empty()),
        kind,
    )
}

fn named<'a>(
    repository: &'a str,
    reference: Option<&'a str>,
    kind: OciKind,
) -> Option<OciCall<'a>> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    repository.split('/').all(part).then_some(OciCall {
        repository,
        reference,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_as_clients_make_them() {
        use OciKind as Kind;
        let cases = [
            ("GET", "/v2/", ("", None, Kind::Ping)),
            ("HEAD", "/v2", ("", None, Kind::Ping)),
            ("GET", "/v2/_catalog", ("", None, Kind::Catalogue)),
            (
                "GET",
                "/v2/shop/web/tags/list",
                ("shop/web", None, Kind::Tags),
            ),
            (
                "HEAD",
                "/v2/library/nginx/manifests/1.27",
                ("library/nginx", Some("1.27"), Kind::CheckManifest),
            ),
            (
                "GET",
                "/v2/a/b/c/manifests/sha256:0123",
                ("a/b/c", Some("sha256:0123"), Kind::GetManifest),
            ),
            (
                "GET",
                "/v2/nginx/blobs/sha256:0123",
                ("nginx", Some("sha256:0123"), Kind::GetBlob),
            ),
            (
                "POST",
                "/v2/shop/web/blobs/uploads/",
                ("shop/web", None, Kind::StartUpload),
            ),
            (
                "PATCH",
                "/v2/shop/web/blobs/uploads/7c1e",
                ("shop/web", Some("7c1e"), Kind::ContinueUpload),
            ),
            (
                "PUT",
                "/v2/shop/web/blobs/uploads/7c1e",
                ("shop/web", Some("7c1e"), Kind::FinishUpload),
            ),
            (
                "PUT",
                "/v2/shop/web/manifests/latest",
                ("shop/web", Some("latest"), Kind::PutManifest),
            ),
            (
                "GET",
                "/v2/shop/web/referrers/sha256:0123",
                ("shop/web", Some("sha256:0123"), Kind::Referrers),
            ),
            // Repositories may be called like the words of the protocol.
            (
                "GET",
                "/v2/blobs/manifests/manifests/blobs",
                ("blobs/manifests", Some("blobs"), Kind::GetManifest),
            ),
        ];
        for (method, path, (repository, reference, kind)) in cases {
            let expected = OciCall {
                repository,
                reference,
                kind,
            };
            assert_eq!(oci(method, path), Some(expected), "{method} {path}");
        }
    }

    #[test]
    fn other_calls() {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/v2x/"),
            ("POST", "/v2/"),
            ("GET", "/v2/users"),
            ("GET", "/v2/users/42"),
            ("GET", "/v2/a b/manifests/x"),
            ("GET", "/v2//manifests/x"),
            ("POST", "/v2/a/manifests/x"),
            ("GET", "/v2/keys/config/app"),
        ] {
            assert_eq!(oci(method, path), None, "{method} {path}");
        }
    }
}
