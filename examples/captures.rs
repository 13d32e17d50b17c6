//! Writes every file under `captures/` anew from its seed.

use std::path::Path;

use anyhow::Context;
use spanwatch::testkit::catalogue::{README, files, with_table};

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let files = files();
    for (path, bytes) in &files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("create {}", folder.display()))?;
        }
        std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    let readme = root.join(README);
    let page =
        std::fs::read_to_string(&readme).with_context(|| format!("read {}", readme.display()))?;
    let page = with_table(&page, &files).map_err(anyhow::Error::msg)?;
    std::fs::write(&readme, page).with_context(|| format!("write {}", readme.display()))
}
