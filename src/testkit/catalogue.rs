//! The files under `captures/`: captures, who is who in them, what must be found, and a table of where it all came from.
//!
//! Everything is computed in memory; writing and comparing is for the callers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cluster::{Cluster, DAY_BEFORE, START};
use super::inventory;
use super::scenarios::{self, Case, Inventory, Part};
use super::wrapped;

/// The command that writes them.
pub const GENERATOR: &str = "cargo run --release --features testkit --example captures";
/// The hand-written page that holds the table.
pub const README: &str = "README.md";

const TABLE_BEGINS: &str = "<!-- table: begin -->\n";
const TABLE_ENDS: &str = "<!-- table: end -->\n";

/// Paths below `captures/`, and contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Every file, save the hand-written page.
pub fn files() -> Files {
    let after = START.after(Duration::from_mins(10));
    let shared = Cluster::default();
    let mut files = Files::from([
        (
            "cluster.json".to_owned(),
            inventory::kubectl_list(&shared, after).into(),
        ),
        ("cluster.csv".to_owned(), inventory::csv(&shared).into()),
    ]);
    files.insert(
        "wrapped/inventory.csv".to_owned(),
        wrapped::inventory().into(),
    );
    for (name, wrap) in wrapped::WRAPS {
        files.insert(format!("wrapped/{name}.pcap"), wrapped::capture(wrap));
    }
    for case in scenarios::all() {
        files.insert(format!("{}/case.toml", case.id), case_toml(&case).into());
        for part in &case.parts {
            let own = match &part.inventory {
                Inventory::Shared => None,
                Inventory::List(cluster) => Some(inventory::kubectl_list(cluster, after)),
                Inventory::Watch(cluster) => {
                    Some(inventory::watch_events(cluster, DAY_BEFORE, after))
                }
            };
            if let Some(own) = own {
                files.insert(format!("{}/{}", case.id, inventory_name(part)), own.into());
            }
            files.insert(
                format!("{}/{}", case.id, part.file),
                (part.record)(part.seed),
            );
        }
    }
    files
}

/// The page with the table of all files put in its place.
///
/// # Errors
/// When the page has no place for it.
pub fn with_table(page: &str, files: &Files) -> Result<String, &'static str> {
    let (head, rest) = page
        .split_once(TABLE_BEGINS)
        .ok_or("no line says where the table begins")?;
    let (_, tail) = rest
        .split_once(TABLE_ENDS)
        .ok_or("no line says where the table ends")?;
    let table = table(files);
    Ok([head, TABLE_BEGINS, &table, TABLE_ENDS, tail].concat())
}

fn table(files: &Files) -> String {
    let mut seeds = BTreeMap::new();
    for (name, _) in wrapped::WRAPS {
        seeds.insert(format!("wrapped/{name}.pcap"), wrapped::SEED);
    }
    for case in scenarios::all() {
        for part in case.parts {
            seeds.insert(format!("{}/{}", case.id, part.file), part.seed);
        }
    }
    let mut table = String::from("| file | seed | bytes | SHA-256 |\n|---|---|---|---|\n");
    for (path, bytes) in files {
        let seed = seeds.get(path).map_or_else(String::new, u64::to_string);
        let digest: String = Sha256::digest(bytes)
            .iter()
            .fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("a string takes all");
                hex
            });
        writeln!(
            table,
            "| `{path}` | {seed} | {} | `{digest}` |",
            bytes.len()
        )
        .expect("a string takes all");
    }
    table
}

fn case_toml(case: &Case) -> String {
    let mut text = format!(
        "# Written by `{GENERATOR}` from src/testkit/scenarios/.\nid = {}\ngenerator = {}\n",
        quoted(case.id),
        quoted(GENERATOR)
    );
    for part in &case.parts {
        let fields = [
            ("capture", quoted(part.file)),
            ("story", quoted(part.story)),
            ("seed", part.seed.to_string()),
            ("inventory", format!("[{}]", quoted(inventory_name(part)))),
        ];
        section(&mut text, &format!("[{}]", part.role), &fields);
    }
    for expect in &case.expect {
        let fields = [
            ("signature", quoted(expect.signature)),
            ("category", quoted(expect.category)),
            ("actor_pod", quoted(&expect.pod)),
            ("workload", quoted(&expect.workload)),
            ("begins_secs", expect.begins.as_secs().to_string()),
            ("max_seconds_to_raise", expect.within.as_secs().to_string()),
            ("targets_at_least", expect.targets.to_string()),
        ];
        section(&mut text, "[[expect]]", &fields);
    }
    text
}

fn section(text: &mut String, head: &str, fields: &[(&str, String)]) {
    writeln!(text, "\n{head}").expect("a string takes all");
    for (name, value) in fields {
        writeln!(text, "{name} = {value}").expect("a string takes all");
    }
}

const fn inventory_name(part: &Part) -> &'static str {
    match part.inventory {
        Inventory::Shared => "../cluster.json",
        Inventory::List(_) => "inventory.json",
        Inventory::Watch(_) => "inventory.jsonl",
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_reads_back() {
        for case in scenarios::all() {
            let table: toml::Table = case_toml(&case).parse().unwrap();
            assert_eq!(table["id"].as_str(), Some(case.id));
            assert_eq!(table["expect"].as_array().unwrap().len(), case.expect.len());
            for part in &case.parts {
                assert_eq!(
                    table[part.role]["seed"].as_integer(),
                    Some(part.seed as i64)
                );
            }
        }
    }

    #[test]
    fn only_the_table_of_the_page_changes() {
        let page = format!("before\n{TABLE_BEGINS}old\n{TABLE_ENDS}after\n");
        let files = Files::from([("a".to_owned(), b"abc".to_vec())]);
        let page = with_table(&page, &files).unwrap();
        assert!(page.starts_with("before\n") && page.ends_with("after\n"));
        // The digest that FIPS 180-4 gives for "abc".
        assert!(page.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        assert!(!page.contains("old"));
        assert!(with_table("nothing", &files).is_err());
    }
}
