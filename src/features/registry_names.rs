//! Which names are those of registries of container images.

/// First labels of names that private registries go by.
const USUAL_LABELS: &[&str] = &[
    "registry",
    "registry-1",
    "docker",
    "harbor",
    "cr",
    "container-registry",
    "images",
];

/// Public registries of container images, as their operators document them.
const PUBLIC_REGISTRIES: &[&str] = &[
    "azurecr.io",
    "cgr.dev",
    "docker.com",
    "docker.elastic.co",
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "lscr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "pkg.dev",
    "public.ecr.aws",
    "quay.io",
    "registry.gitlab.com",
    "registry.k8s.io",
    "registry.redhat.io",
];
/// Registries of other things.
const OTHER_REGISTRIES: &[&str] = &[
    "registry.bower.io",
    "registry.npmjs.org",
    "registry.opentofu.org",
    "registry.terraform.io",
    "registry.yarnpkg.com",
];

/// Whether a name is one of the domains, or below it.
fn is_one_of(name: &str, domains: &[&str]) -> bool {
    domains.iter().any(|domain| {
        let left = name.strip_suffix(domain);
        left.is_some_and(|left| left.is_empty() || left.ends_with('.'))
    })
}

/// Whether a name is a public registry's, which everybody uses.
pub fn is_public_registry(name: &str) -> bool {
    is_one_of(name, PUBLIC_REGISTRIES)
}

/// Whether a name is a container registry's: one of the public ones (or below it), or of the form private ones have.
pub fn is_registry(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    !is_one_of(name, OTHER_REGISTRIES)
        && (is_public_registry(name) || USUAL_LABELS.contains(&first) || name.contains(".dkr.ecr."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_registries() {
        for name in [
            "registry-1.docker.io",
            "ghcr.io",
            "registry.acme.example",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "europe-west3-docker.pkg.dev",
        ] {
            assert!(is_registry(name), "{name}");
        }
        for name in [
            "registry.npmjs.org",
            "notdocker.io",
            "www.registry.example",
            "",
        ] {
            assert!(!is_registry(name), "{name}");
        }
    }
}
