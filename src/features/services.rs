//! Which ports belong to which databases and long sessions, and which paths to monitoring: the prior that flows are judged by
//! until content says more.

/// A database product (or a store that is attacked like one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DatabaseProduct(pub &'static str);

/// Registered and customary ports, sorted.
const PORTS: &[(u16, &str)] = &[
    (1433, "mssql"),
    (1521, "oracle"),
    (2379, "etcd"),
    (2380, "etcd"),
    (3306, "mysql"),
    (5432, "postgresql"),
    (5433, "postgresql"),
    (5984, "couchdb"),
    (6379, "redis"),
    (7000, "cassandra"),
    (7687, "neo4j"),
    (8086, "influxdb"),
    (8123, "clickhouse"),
    (8529, "arangodb"),
    (9042, "cassandra"),
    (9200, "elasticsearch"),
    (9300, "elasticsearch"),
    (11211, "memcached"),
    (27017, "mongodb"),
    (27018, "mongodb"),
    (27019, "mongodb"),
    (33060, "mysql"),
];

/// The database that customarily listens on a TCP port.
pub fn database_product(port: u16) -> Option<DatabaseProduct> {
    PORTS
        .binary_search_by_key(&port, |&(port, _)| port)
        .ok()
        .and_then(|at| PORTS.get(at))
        .map(|&(_, product)| DatabaseProduct(product))
}

/// Ports of protocols whose connections stay, tick to be kept alive, and let the server speak unasked: terminals, chats,
/// queues, control systems, time and the keeping open of NAT; sorted.
const SESSION_PORTS: &[u16] = &[
    21, 22, 23, 102, 123, 179, 194, 389, 500, 502, 513, 514, 554, 636, 646, 1194, 1521, 1883, 2181,
    2404, 3389, 3478, 4222, 4369, 4500, 4505, 4506, 4730, 4840, 5060, 5222, 5223, 5228, 5269, 5349,
    5671, 5672, 5900, 6222, 6667, 6697, 8883, 9092, 9093, 11300, 15672, 19302, 20000, 25672, 27017,
    44818, 47808, 51820, 61613, 61616, 64738,
];

/// Whether the protocol that customarily uses a port keeps sessions: then neither ticks nor a server that speaks first
/// say anything.
pub fn is_session_port(port: u16) -> bool {
    SESSION_PORTS.binary_search(&port).is_ok()
}

/// What monitors ask for, the last part of the path.
const MONITORED: &[&str] = &[
    "federate",
    "health",
    "healthcheck",
    "healthz",
    "live",
    "livez",
    "metrics",
    "ping",
    "probe",
    "prometheus",
    "ready",
    "readyz",
    "scrape",
];

/// Whether a path is one at which every kind of program tells how it is: that it is asked there makes no server of it.
pub fn is_monitoring(path: &str) -> bool {
    let last = path.rsplit('/').find(|part| !part.is_empty());
    last.is_some_and(|last| MONITORED.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_sorted_so_that_search_finds_them() {
        assert!(PORTS.is_sorted_by_key(|&(port, _)| port));
        assert!(SESSION_PORTS.is_sorted());
        assert!(is_session_port(1883) && !is_session_port(443));
        assert_eq!(database_product(6379), Some(DatabaseProduct("redis")));
        assert_eq!(database_product(443), None);
    }
}
