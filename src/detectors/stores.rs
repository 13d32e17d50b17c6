//! Which names are those of object stores: where copies go by right, and loot by preference.

/// Object storage, as its operators document it: the end of the name, and how the label before it begins.
const STORES: &[(&str, &str)] = &[
    ("aliyuncs.com", "oss"),
    ("amazonaws.com", "s3"),
    ("appdomain.cloud", "s3"),
    ("backblazeb2.com", ""),
    ("blob.core.windows.net", ""),
    ("cloud.ovh.net", "s3"),
    ("cloudflarestorage.com", ""),
    ("contabostorage.com", ""),
    ("digitaloceanspaces.com", ""),
    ("exo.io", "sos"),
    ("idrivee2.com", ""),
    ("linodeobjects.com", ""),
    ("myqcloud.com", "cos"),
    ("oraclecloud.com", "objectstorage"),
    ("scw.cloud", "s3"),
    ("storage.googleapis.com", ""),
    ("storage.yandexcloud.net", ""),
    ("upcloudobjects.com", ""),
    ("vultrobjects.com", ""),
    ("wasabisys.com", ""),
    ("your-objectstorage.com", ""),
];
/// What labels of a store of one's own begin with.
const USUAL_LABELS: &[&str] = &[
    "minio",
    "object-store",
    "objectstor",
    "object-storage",
    "s3",
];

/// Whether a label is a word, alone or with something after a dash or a digit: `s3`, `s3-eu`, `minio2`, never `s3cret`.
fn begins(label: &str, word: &str) -> bool {
    let after = label
        .strip_prefix(word)
        .and_then(|rest| rest.chars().next());
    label == word || after.is_some_and(|next| !next.is_ascii_alphabetic())
}

/// Whether a host's name is that of an object store.
pub(super) fn is_object_store(name: &str) -> bool {
    let known = STORES.iter().any(|(end, word)| {
        let before = name.strip_suffix(end);
        let before = before.filter(|before| before.is_empty() || before.ends_with('.'));
        before.is_some_and(|before| {
            word.is_empty() || before.split('.').any(|label| begins(label, word))
        })
    });
    // The registered domain's own label is a company's name.
    let own = name.rsplitn(3, '.').nth(2);
    known
        || own.is_some_and(|own| {
            own.split('.').any(|label| {
                USUAL_LABELS.iter().any(|word| {
                    begins(label, word) || word.ends_with("stor") && label.starts_with(word)
                })
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_and_others() {
        for name in [
            "bucket.s3.eu-west-1.amazonaws.com",
            "s3.amazonaws.com",
            "s3-us-west-2.amazonaws.com",
            "storage.googleapis.com",
            "account.blob.core.windows.net",
            "s3.us-west-004.backblazeb2.com",
            "s3.objectstore.example",
            "minio.backup.example.org",
            "objectstorage.example.org",
        ] {
            assert!(is_object_store(name), "{name}");
        }
        for name in [
            "amazonaws.com",
            "sqs.eu-west-1.amazonaws.com",
            "files.drop-box.example",
            "s3cret.example.org",
            "s3.example",
            "evilblob.core.windows.net.example",
            "update.sync-edge.example",
        ] {
            assert!(!is_object_store(name), "{name}");
        }
    }
}
