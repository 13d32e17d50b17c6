//! Findings in, alerts out: one alert per attack, which grows while the attack goes on.
