//! Which of a server's errors say that whoever logs in isn't who he says, by product.
//!
//! Others (too many connections, starting up, no such database) are no guess gone wrong: most are told after the password
//! was found right, or before it was looked at.

/// Codes by product. From the products' own lists of errors; a product that isn't here reports refusals only.
const REFUSALS: &[(&str, &[&str])] = &[
    // invalid_password, invalid_authorization_specification.
    ("postgresql", &["28P01", "28000"]),
    // ER_ACCESS_DENIED_ERROR and its relatives: no password given, no such plug-in's user, account locked.
    ("mysql", &["1045", "1698", "3118", "4151"]),
    ("redis", &["WRONGPASS", "ERR"]),
    // Login failed: generally, from an untrusted domain, disabled, locked out, expired.
    ("mssql", &["18456", "18452", "18470", "18486"]),
    // AuthenticationFailed, UserNotFound.
    ("mongodb", &["18", "11"]),
    // Bad credentials.
    ("cassandra", &["256", "0x0100"]),
    // Invalid username/password, account locked; the same as text.
    ("oracle", &["1017", "28000", "ORA-01017", "ORA-28000"]),
    // AUTHENTICATION_FAILED, WRONG_PASSWORD, REQUIRED_PASSWORD, UNKNOWN_USER.
    ("clickhouse", &["516", "193", "194", "192"]),
    ("elasticsearch", &["401", "403"]),
    // Authentication error, in binary and as the text protocol has it.
    ("memcached", &["32", "0x20", "CLIENT_ERROR"]),
    // Not logged in; authentication credentials invalid; invalidCredentials. Others are told before anybody looked.
    ("ftp", &["530"]),
    ("smtp", &["535"]),
    ("ldap", &["49"]),
];

/// Whether a refused login was refused for its user or password. A refusal without a code is taken for one.
pub fn refuses_credentials(product: &str, code: Option<&str>) -> bool {
    let Some(code) = code else { return true };
    REFUSALS
        .iter()
        .find(|(known, _)| *known == product)
        .is_none_or(|(_, codes)| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_is_no_wrong_password() {
        assert!(refuses_credentials("postgresql", Some("28P01")));
        assert!(refuses_credentials("mysql", Some("1045")));
        assert!(refuses_credentials("redis", None));
        assert!(refuses_credentials("memcached", Some("CLIENT_ERROR")));
        assert!(!refuses_credentials("memcached", Some("0x82")));
        assert!(!refuses_credentials("postgresql", Some("53300")));
        assert!(!refuses_credentials("postgresql", Some("3D000")));
        assert!(!refuses_credentials("mysql", Some("1049")));
        assert!(!refuses_credentials("ftp", Some("421")));
    }
}
