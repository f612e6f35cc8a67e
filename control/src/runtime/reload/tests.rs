use super::*;
use crate::compile::Compiler;
use crate::config;
use ulvs_dataplane::service::Loads;

const BASE: &str = r#"
[director]
workers = 2
[[port]]
interface = "eth0"
vlans = [{ id = 5 }]
[[port]]
interface = "eth1"
[[service]]
protocol = "tcp"
address = "192.0.2.1:80"
method = "nat"
scheduler = "rr"
[[service.server]]
address = "10.0.0.1:80"
[[service.server]]
address = "10.0.0.2:80"
[[service]]
protocol = "udp"
address = "192.0.2.1:53"
method = "nat"
[[service.server]]
address = "10.0.0.1:53"
"#;

fn parse(text: &str) -> Config {
    config::parse(text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn changed(from: &str, to: &str) -> Config {
    let text = BASE.replacen(from, to, 1);
    assert_ne!(text, BASE, "{from} is not in the text");
    parse(&text)
}

#[test]
fn what_needs_a_restart_is_named() {
    let base = parse(BASE);
    let told = |from, to| needs_restart(&base, &changed(from, to)).unwrap_or_default();
    assert!(told("workers = 2", "workers = 3").contains("(workers in [director])"));
    assert!(told("id = 5", "id = 6").contains("(port \"eth0\")"));
    assert!(told("\"eth1\"", "\"eth2\"").contains("(port \"eth1\", port \"eth2\")"));
    assert!(
        told("workers = 2", "idle = \"poll\"\ncontrol_group = \"adm\"\nworkers = 2")
            .contains("(idle in [director], control_group in [director])")
    );
    let mut swapped = base.clone();
    swapped.ports.swap(0, 1);
    let reason = needs_restart(&base, &swapped).unwrap_or_default();
    assert!(reason.contains("(the order of the ports)"), "{reason}");
}

#[test]
fn services_timeouts_and_other_lines_need_no_restart() {
    let base = parse(BASE);
    for (from, to) in [
        ("[director]", "# A line more.\n[director]"),
        ("[director]", "[timeouts]\ntcp = 1\n[director]"),
        ("[director]", "[ipvs]\nconn_reuse_mode = 0\n[director]"),
        ("10.0.0.2:80", "10.0.0.3:80"),
        ("192.0.2.1:53", "192.0.2.2:53"),
    ] {
        assert_eq!(needs_restart(&base, &changed(from, to)), None, "{to}");
    }
}

#[test]
fn changes_are_counted() {
    let base = parse(BASE);
    let mut compiler = Compiler::new(&base.director, Arc::new(Loads::new(base.director.server_limit)));
    let old = compiler.compile(&base).unwrap();
    let mut told = |config: &Config| {
        let new = compiler.prepare(config).unwrap().services();
        compiler.discard();
        Changes::between((&old, &base), (&new, config)).to_string()
    };
    assert_eq!(told(&base), "nothing differs");
    assert_eq!(
        told(&changed(
            "10.0.0.2:80\"",
            "10.0.0.3:80\"\n[[service.server]]\naddress = \"10.0.0.4:80\""
        )),
        "servers: 2 added, 1 removed, 0 changed"
    );
    assert_eq!(
        told(&changed("10.0.0.2:80\"", "10.0.0.2:80\"\nweight = 0")),
        "servers: 0 added, 0 removed, 1 changed"
    );
    assert_eq!(
        told(&changed("\"rr\"", "\"wlc\"")),
        "services: 0 added, 0 removed, 1 changed"
    );
    assert_eq!(
        told(&changed("192.0.2.1:53", "192.0.2.2:53")),
        "services: 1 added, 1 removed, 0 changed; servers: 1 added, 1 removed, 0 changed"
    );
    assert_eq!(
        told(&changed("[director]", "[timeouts]\ntcp = 1\n[director]")),
        "timeouts changed"
    );
    assert_eq!(
        told(&changed("[director]", "[ipvs]\nsloppy_tcp = 1\n[director]")),
        "[ipvs] changed"
    );
}
