//! Files under `docs/` that are generated: compared by tests, rewritten on request.

use std::path::Path;

/// Fails unless the repository's file at `path` holds exactly `content`; with `UPDATE_EXPECT=1` writes it instead.
pub(crate) fn assert_generated(path: &str, content: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == content,
        "{path} is out of date; run the tests with UPDATE_EXPECT=1 and review the difference"
    );
}
