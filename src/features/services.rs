//! Which ports belong to which database: the prior that probes are judged by until content says more.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_sorted_so_that_search_finds_them() {
        assert!(PORTS.is_sorted_by_key(|&(port, _)| port));
        assert_eq!(database_product(6379), Some(DatabaseProduct("redis")));
        assert_eq!(database_product(443), None);
    }
}
