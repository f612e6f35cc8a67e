//! "Did you mean": the nearest valid word for a wrong one.

use super::schema::{KEYS_OF_FILE, Key, Kind, Table};

/// What operators know from ipvsadm, keepalived and DPVS, and what it is called here.
const KNOWN_ELSEWHERE: &[(&str, &str)] = &[
    ("alpha", "weight"),
    ("delay_loop", "server"),
    ("destination", "server"),
    ("direct", "dr"),
    ("dnat", "nat"),
    ("fnat", "fullnat"),
    ("gatewaying", "dr"),
    ("gateway", "dr"),
    ("ipip", "tun"),
    ("laddr_group_name", "local_pool"),
    ("lb_algo", "scheduler"),
    ("lb_kind", "method"),
    ("lvs_method", "method"),
    ("lvs_sched", "scheduler"),
    ("masq", "nat"),
    ("masquerading", "nat"),
    ("proxy_protocol", "client_address"),
    ("real_server", "server"),
    ("route", "dr"),
    ("lthreshold", "lower_threshold"),
    ("uthreshold", "upper_threshold"),
    ("vip", "address"),
    ("virtual_server", "service"),
    ("zerocopy", "zero_copy"),
];

/// The word of `valid` that was most likely meant by `wrong`.
pub fn nearest<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let elsewhere = KNOWN_ELSEWHERE.iter().find(|(other, _)| *other == wrong);
    if let Some(known) = elsewhere.and_then(|(_, ours)| valid.clone().into_iter().find(|word| word == ours)) {
        return Some(known);
    }
    let distance = |word: &str| strsim::damerau_levenshtein(&wrong, &word.to_lowercase().replace('-', "_"));
    let allowed = |word: &str| (word.chars().count().max(wrong.chars().count()) / 3).max(1);
    valid
        .into_iter()
        .map(|word| (distance(word), word))
        .filter(|(distance, word)| *distance <= allowed(word) && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `did you mean "..."?`, or the list of what is valid.
pub fn did_you_mean<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(wrong, valid.clone()) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("valid here: {}", valid.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// Help for a key that `table` does not have: a near name, or the table that the key belongs to.
pub fn help_for_key(wrong: &str, table: &Table) -> String {
    let names = table.keys.iter().map(|key| key.name);
    if let Some(word) = nearest(wrong, names.clone()) {
        return format!("did you mean \"{word}\"?");
    }
    let mut owners = Vec::new();
    collect_owners(wrong, KEYS_OF_FILE, &mut owners);
    if owners.is_empty() {
        return format!("valid here: {}", names.collect::<Vec<_>>().join(", "));
    }
    if owners
        .iter()
        .any(|owner| owner.starts_with(table.name.trim_end_matches(']')))
        || table.name == KEYS_OF_FILE.name
    {
        return format!("\"{wrong}\" belongs under {}", owners.join(" or "));
    }
    format!(
        "\"{wrong}\" is a key of {}: a key belongs to the header above it, so write it before {} begins",
        owners.join(" or "),
        table.name
    )
}

/// The names of all tables that have a key called `name`.
fn collect_owners(name: &str, table: &Table, owners: &mut Vec<String>) {
    if table.keys.iter().any(|key| key.name == name) {
        owners.push(table.name.to_string());
    }
    for Key { kind, .. } in table.keys {
        if let Kind::Section(inner) | Kind::Sections(inner) = kind {
            collect_owners(name, inner, owners);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_other_programs_words() {
        let methods = ["nat", "dr", "tun", "fullnat"];
        assert_eq!(nearest("masq", methods), Some("nat"));
        assert_eq!(nearest("full-nat", methods), Some("fullnat"));
        assert_eq!(nearest("NAT", methods), Some("nat"));
        assert_eq!(nearest("quic", methods), None);
        assert_eq!(
            nearest("schedular", ["scheduler", "scheduler_flags"]),
            Some("scheduler")
        );
        assert_eq!(nearest("", methods), None);
    }
}
