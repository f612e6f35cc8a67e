//! What cannot work is refused, or warned of, in words that help.

use super::*;

#[test]
fn a_queue_that_another_program_holds_is_named() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let settings = settings(&["d0"], AttachMode::Native, 1);
    let again = settings.clone();
    let Opened { workers, filter, .. } = run_in(&lab.director, move || open(&settings)).unwrap();
    drop(filter);
    lab.expect_detached();
    let error = lab.open_error(again);
    assert!(
        matches!(&error, Error::QueueInUse { device, queue: 0 } if device == "d0"),
        "{error}"
    );
    drop(workers);
}

#[test]
fn a_missing_interface_names_those_that_exist() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let error = lab.open_error(settings(&["eth7"], AttachMode::Auto, 1));
    assert!(
        matches!(&error, Error::NoSuchDevice { name, existing } if name == "eth7" && existing == "lo, d0"),
        "{error}"
    );
}

#[test]
fn more_workers_than_queues_are_refused_with_the_command() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let error = lab.open_error(settings(&["d0"], AttachMode::Auto, 2));
    assert!(
        matches!(
            error,
            Error::TooFewQueues {
                queues: 1,
                workers: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("ethtool -L d0 rx 2 tx 2"), "{error}");
}

#[test]
fn a_second_director_on_the_same_interface_is_refused() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    for (mode, keyword) in [(AttachMode::Native, "xdpdrv"), (AttachMode::Generic, "xdpgeneric")] {
        let first = Echo::start(&lab, settings(&["d0"], mode, 1));
        let error = lab.open_error(settings(&["d0"], AttachMode::Auto, 1));
        assert!(
            matches!(&error, Error::ProgramAttached { program, .. } if program.starts_with("filter_")),
            "{error}"
        );
        assert!(error.to_string().contains(keyword), "{error}");
        run_in(&lab.peer, || echoed(OWNED, 64));
        first.finish();
    }
}

#[test]
fn a_veth_with_too_few_queues_is_explained_and_runs_in_generic_mode() {
    let Some(lab) = Lab::new(1, 2, 1500) else { return };
    let error = lab.open_error(settings(&["d0"], AttachMode::Native, 1));
    assert!(matches!(error, Error::VethQueues { receive_queues: 1, .. }), "{error}");

    let echo = Echo::start(&lab, settings(&["d0"], AttachMode::Auto, 1));
    let facts = &echo.opened.devices[0];
    assert_eq!(facts.mode, XdpMode::Generic);
    assert!(
        facts.warnings.iter().any(|warning| warning.contains("numrxqueues")),
        "{:?}",
        facts.warnings
    );
    run_in(&lab.peer, || echoed(OWNED, 64));
    echo.finish();
}

#[test]
fn missing_permissions_are_named() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let cases = [
        ("-all", "loading the XDP filter is not permitted"),
        ("-net_raw", "opening an AF_XDP socket for d0 is not permitted"),
        ("-ipc_lock,-sys_resource", "LimitMEMLOCK=infinity"),
    ];
    for (dropped, sentence) in cases {
        let shell = format!("ulimit -l 64; exec setpriv --inh-caps={dropped} --bounding-set={dropped} \"$@\"");
        let message = lab.failing_example(&shell, "af_xdp_echo", &["d0", "192.0.2.100"]);
        assert!(message.contains(sentence), "without {dropped}: {message}");
        lab.expect_detached();
    }
}

#[test]
fn zero_copy_that_the_driver_lacks_is_refused_when_demanded() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let error = lab.open_error(Settings {
        zero_copy: ZeroCopy::On,
        ..settings(&["d0"], AttachMode::Native, 1)
    });
    assert!(
        matches!(&error, Error::NoZeroCopy { device, driver, .. } if device == "d0" && driver == "veth"),
        "{error}"
    );
    lab.expect_detached();
}

#[test]
fn hidden_vlan_tags_are_warned_of() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let mut settings = settings(&["d0"], AttachMode::Native, 1);
    settings.devices[0].vlans = vec![0, 10];
    let opened = run_in(&lab.director, move || open(&settings)).unwrap();
    let warnings = &opened.devices[0].warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("ethtool -K PEER txvlan off")),
        "{warnings:?}"
    );
}

#[test]
fn impossible_settings_are_refused() {
    let good = settings(&["lo"], AttachMode::Auto, 1);
    let bad = [
        Settings {
            devices: Vec::new(),
            ..good.clone()
        },
        Settings {
            workers: 0,
            ..good.clone()
        },
        Settings {
            frame_size: 3000,
            ..good.clone()
        },
        Settings {
            ring_size: 1000,
            ..good.clone()
        },
        settings(&["lo", "lo"], AttachMode::Auto, 1),
        Settings {
            devices: vec![DeviceSettings {
                vlans: vec![4095],
                ..DeviceSettings::new("lo")
            }],
            ..good.clone()
        },
        Settings {
            devices: vec![DeviceSettings {
                vlans: vec![],
                ..DeviceSettings::new("lo")
            }],
            ..good
        },
    ];
    for settings in bad {
        assert!(matches!(open(&settings), Err(Error::Setting(_))), "{settings:?}");
    }
    assert_ne!(DIRECTOR, OWNED);
}
