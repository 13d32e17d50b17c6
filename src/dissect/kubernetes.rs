//! What a call to the Kubernetes API asks for, as far as its path tells.

use super::HttpRequest;

/// A call to the API server about objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KubernetesCall<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// The objects' namespace; `None` for all of them, or for objects that have none.
    pub namespace: Option<&'a str>,
    /// Kind of objects, in the plural: `pods`, `secrets`.
    pub resource: &'a str,
    /// The one object meant; `None` for all.
    pub name: Option<&'a str>,
    /// What of the object: `exec`, `log`, `portforward`, `status`.
    pub subresource: Option<&'a str>,
}

impl HttpRequest {
    /// The call to the Kubernetes API that this is, if it is one about objects.
    pub fn kubernetes(&self) -> Option<KubernetesCall<'_>> {
        kubernetes(&self.path)
    }
}

/// Reads a path without query: `/api/v1/…` or `/apis/<group>/<version>/…`.
fn kubernetes(path: &str) -> Option<KubernetesCall<'_>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next().filter(|group| !group.is_empty())?,
        _ => return None,
    };
    parts.next().filter(|version| is_version(version))?;
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let mut first = next()?;
    // The old form of watching.
    if first == "watch" {
        first = next()?;
    }
    let (namespace, resource, name) = match (first, next()) {
        ("namespaces", Some(namespace)) => match next() {
            None => (None, first, Some(namespace)),
            // A namespace's own subresources; there are no others.
            Some(part @ ("status" | "finalize")) => {
                return Some(KubernetesCall {
                    group,
                    namespace: None,
                    resource: first,
                    name: Some(namespace),
                    subresource: Some(part),
                });
            }
            Some(resource) => (Some(namespace), resource, next()),
        },
        (resource, name) => (None, resource, name),
    };
    Some(KubernetesCall {
        group,
        namespace,
        resource,
        name,
        subresource: next(),
    })
}

/// `v1`, `v1beta1`, `v2alpha1`.
fn is_version(text: &str) -> bool {
    text.strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_api() {
        let cases = [
            ("/api/v1/pods", ("", None, "pods", None, None)),
            (
                "/api/v1/namespaces/shop/secrets",
                ("", Some("shop"), "secrets", None, None),
            ),
            (
                "/api/v1/namespaces/shop/pods/web-1/exec",
                ("", Some("shop"), "pods", Some("web-1"), Some("exec")),
            ),
            (
                "/apis/apps/v1/namespaces/shop/deployments/web",
                ("apps", Some("shop"), "deployments", Some("web"), None),
            ),
            (
                "/apis/apiextensions.k8s.io/v1beta1/customresourcedefinitions",
                (
                    "apiextensions.k8s.io",
                    None,
                    "customresourcedefinitions",
                    None,
                    None,
                ),
            ),
            ("/api/v1/namespaces", ("", None, "namespaces", None, None)),
            (
                "/api/v1/namespaces/shop",
                ("", None, "namespaces", Some("shop"), None),
            ),
            (
                "/api/v1/namespaces/shop/finalize",
                ("", None, "namespaces", Some("shop"), Some("finalize")),
            ),
            (
                "/api/v1/nodes/n1/proxy/metrics",
                ("", None, "nodes", Some("n1"), Some("proxy")),
            ),
            ("/api/v1/watch/pods/", ("", None, "pods", None, None)),
        ];
        for (path, (group, namespace, resource, name, subresource)) in cases {
            let expected = KubernetesCall {
                group,
                namespace,
                resource,
                name,
                subresource,
            };
            assert_eq!(kubernetes(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn paths_of_others() {
        for path in [
            "/",
            "",
            "/api",
            "/api/v1",
            "/api/v1/",
            "/apis//v1/x",
            "/api/items",
            "/healthz",
            "/apis/apps",
        ] {
            assert_eq!(kubernetes(path), None, "{path}");
        }
    }
}
