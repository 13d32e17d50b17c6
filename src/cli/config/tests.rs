//! Files good and bad; and that file, flags and documents tell the same.

use std::fmt::Write as _;

use super::command::{meaning, preset, taken, value};
use super::*;
use crate::cli::Command;
use crate::signature::golden;

/// Reads a command line whose `FILE` is a file with this text.
fn read_with(text: &str, typed: &str) -> Result<Invocation, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spanwatch.toml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let words = format!("spanwatch {typed}");
    let words = words
        .split(' ')
        .map(|word| word.replace("FILE", file).into());
    let read = read(words.collect()).map_err(|failure| failure.to_string().replace(file, "FILE"));
    read.map(|mut invocation| {
        for problem in &mut invocation.source.problems {
            problem.file = "FILE".into();
        }
        invocation
    })
}

fn agent(text: &str, typed: &str) -> String {
    match read_with(text, typed).unwrap().cli.command {
        Command::Agent(args) => format!("{args:?}"),
        Command::Sensor(args) => format!("{args:?}"),
        other => panic!("{other:?}"),
    }
}

fn problems(text: &str) -> String {
    match read_with(text, "agent --config FILE") {
        Ok(invocation) if invocation.source.problems.is_empty() => String::new(),
        Ok(invocation) => together(&invocation.source.problems),
        Err(problems) => problems,
    }
}

#[test]
fn a_file_is_as_good_as_flags() {
    let text = "interface = [\"eth1\", \"eth2\"]\nsnaplen = 0x80\nbaseline = \"/b\"\nlearn = true\npromisc = false\n\
                cluster-cidr = \"10.0.0.0/8\"\nlisten = \"127.0.0.1:9474\"\nformat = \"json\"\nfilter = \"tcp or udp\"\n";
    let config = |args: String| {
        let (before, after) = args.split_once("config: Some(\"").unwrap();
        format!("{before}config: None{}", after.split_once("\")").unwrap().1)
    };
    let mut typed: Vec<OsString> = "spanwatch agent -i eth1 -i eth2 --snaplen 128 --baseline /b --learn \
                                    --cluster-cidr 10.0.0.0/8 --listen 127.0.0.1:9474 --format json --filter"
        .split_whitespace()
        .map(Into::into)
        .collect();
    typed.push("tcp or udp".into());
    let Ok(Invocation { cli, .. }) = read(typed) else {
        panic!();
    };
    let Command::Agent(args) = cli.command else {
        panic!();
    };
    assert_eq!(
        config(agent(text, "-v agent --config FILE")),
        format!("{args:?}")
    );
    // A sensor takes its interface from it as well.
    assert!(agent(text, "sensor --config=FILE").contains("interface: [\"eth1\", \"eth2\"]"));
}

#[test]
fn flags_win_over_the_file() {
    let text = "interface = [\"eth1\"]\nsnaplen = 128\nwebhook = \"http://a\"\nring = 4\n";
    let args = agent(
        text,
        "agent --config FILE -i eth9 --snaplen 256 --alertmanager http://b",
    );
    assert!(args.contains("interface: [\"eth9\"]"), "{args}");
    assert!(
        args.contains("snaplen: 256") && args.contains("ring: Some(4)"),
        "{args}"
    );
    assert!(
        args.contains("webhook: None"),
        "what excludes the flag goes: {args}"
    );
    // What one of them needs may come from the other.
    let args = agent("learn = true\n", "agent --baseline /b --config FILE");
    assert!(args.contains("learn: true"), "{args}");
}

#[test]
fn all_problems_are_told_at_once_each_with_its_line() {
    insta::assert_snapshot!(problems(
        "cluster_cidr = [\"10.0.0.0/8\"]\nbasline = \"/b\"\nzebra = 1\nsnaplen = 12\nring = \"16\"\nlearn = 1\n\
         cluster-cidr = [\"10.0.0.0/8\", \"10.0.0.0/99\"]\nlisten = \"here\"\nformat = \"xml\"\noutput = \"\"\n\
         webhook = \"http://a\"\nalertmanager = \"http://b\"\nconfig = \"x\"\nbuffer = 0xffff_ffff_ffff_ffff\n[agent]\nring = 4\n"
    ));
    insta::assert_snapshot!(problems("snaplen = 1\nsnaplen = 2\nring = \n"));
    insta::assert_snapshot!(problems("ring = 4\n\n# ten minutes\nlearn = true\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let typed = ["spanwatch", "sensor", "-i", "x", "--config", "/none/x.toml"];
    let Ok(invocation) = read(typed.map(OsString::from).to_vec()) else {
        panic!();
    };
    let told = together(&invocation.source.problems);
    assert!(told.starts_with("/none/x.toml: cannot read it: "), "{told}");
}

#[test]
fn a_place_is_the_file_or_the_flag() {
    let Ok(invocation) = read_with("\nring = 4\nbuffer = 2\n", "agent --config FILE --buffer 3")
    else {
        panic!();
    };
    let place = |key| invocation.source.place(key);
    assert!(place("ring").ends_with("spanwatch.toml:2: `ring`"));
    assert_eq!(place("buffer"), "--buffer");
}

#[test]
fn both_commands_have_the_same_options() {
    let cli = Cli::command();
    let options = COMMANDS.map(|name| {
        let command = cli.find_subcommand(name).unwrap();
        let all = command
            .get_arguments()
            .filter(|one| one.get_id() != "interface");
        let all = all.map(|one| {
            (
                one.get_id().clone(),
                one.get_long().map(str::to_owned),
                meaning(one),
            )
        });
        all.collect::<Vec<_>>()
    });
    assert_eq!(options[0], options[1]);
    let schema = Schema::new();
    assert!(schema.options().count() > 20);
    for key in RENEWED {
        assert!(schema.option(key).is_some(), "{key}");
    }
}

#[test]
fn the_default_file_is_good_with_and_without_its_presets() {
    let schema = Schema::new();
    let text = command::default(&schema);
    assert_eq!(
        agent("", "agent --config FILE").len(),
        agent(&text, "agent --config FILE").len()
    );
    for option in schema.options() {
        let key = option.get_long().unwrap();
        assert!(text.contains(&format!("\n#{key} = ")), "{key}");
        if let Some(preset) = preset(option) {
            let told = problems(&format!("{key} = {preset}\n"));
            assert_eq!(told, "", "{key}");
        }
    }
}

#[test]
fn the_documented_keys_are_those_there_are() {
    let mut text = "# Configuration file\n\n\
         `spanwatch agent --config FILE` and `spanwatch sensor --config FILE` read their options from a TOML file, by the names that\n\
         they have as flags. A flag wins over the file; of a list, the flag's is the whole one. Paths are taken as flags' are.\n\n\
         ```toml\ninterface = [\"eth1\"]\npromisc = true\ninventory = [\"/etc/spanwatch/pods.json\"]\n\
         baseline = \"/var/lib/spanwatch/baseline\"\nlearn = true\noutput = \"/var/log/spanwatch/alerts.jsonl\"\n\
         listen = \"127.0.0.1:9474\"\n```\n\n\
         `spanwatch config check FILE` reads it and all that it names (signatures, exceptions, filter, tokens, certificates) and\n\
         tells everything that is wrong at once, each with its line. `spanwatch config default` prints a file to begin with,\n\
         `spanwatch config explain KEY` what a key means.\n\n\
         At SIGHUP the file is read again. If anything is wrong, all stays as it was, and the log says why; alerts and flows are\n\
         written to their files opened anew in any case. What is taken at the start only is named in the log when it changed.\n\n\
         | key | value | if not set | taken | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for option in Schema::new().options() {
        let key = option.get_long().unwrap();
        let preset = preset(option).map(|preset| format!("`{preset}`"));
        let meaning = meaning(option).replace('|', "\\|");
        writeln!(
            text,
            "| `{key}` | {} | {} | {} | {meaning} |",
            value(option),
            preset.unwrap_or_default(),
            taken(option)
        )
        .unwrap();
    }
    golden::assert_generated("docs/config.md", &text);
}
