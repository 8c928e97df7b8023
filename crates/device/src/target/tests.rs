use super::*;

#[test]
fn every_shipped_profile_loads_and_is_shipped() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../targets");
    let on_disk: Vec<_> = files(&folder).unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
    let mut shipped: Vec<_> = SHIPPED.iter().map(|(name, _)| std::ffi::OsString::from(name)).collect();
    shipped.sort();
    assert_eq!(on_disk, shipped, "the files under targets/ and the list SHIPPED differ");
    for (name, text) in SHIPPED {
        let profile = parse(Path::new(name), text).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(format!("{}.toml", profile.id), name);
    }
}

#[test]
fn names_are_found_in_any_case_and_by_alias() {
    assert_eq!(find("Raspberry-Pi", &[]).unwrap().id, "raspberry-pi-4");
    assert_eq!(find("RASPBERRY-PI-5", &[]).unwrap().cpu.name, "cortex-a76");
}

#[test]
fn the_host_is_described_by_itself() {
    let host = find("host", &[]).unwrap();
    assert!(host.is_host() && host.emulator.is_none());
    assert_eq!(host.cpu.cores as usize, std::thread::available_parallelism().unwrap().get());
    assert!(host.ram().0 > 64 << 20, "{:?}", host.ram());
    assert!(host.build.triple.starts_with(std::env::consts::ARCH));
}

#[test]
fn near_misses_are_suggested() {
    let message = find("rasberry-pi5", &[]).unwrap_err().to_string();
    assert!(message.contains("did you mean ") && message.contains("`raspberry-pi-5`"), "{message}");
    let message = find("toaster", &[]).unwrap_err().to_string();
    assert!(!message.contains("did you mean") && message.contains("kdc targets"), "{message}");
}

/// The Raspberry Pi 4's profile with one change.
fn changed(from: &str, to: &str) -> Result<Profile, Error> {
    let (name, text) = SHIPPED[3];
    assert!(text.contains(from), "the profile has no `{from}`");
    parse(Path::new(name), &text.replacen(from, to, 1))
}

#[test]
fn checks_name_what_is_wrong() {
    let cases = [
        ("clock_hz = 1_500_000_000", "clock_hz = 1_500", "cpu: "),
        ("cores = 4", "cores = 0", "cpu: "),
        ("\"raspberry-pi\"", "\"Raspberry Pi\"", "names: "),
        ("machine = \"aarch64\"", "machine = \"x86_64\"", "machine: "),
        ("\"-cpu\", \"cortex-a72\", ", "", "emulator: "),
        ("weight_bytes_per_cycle = ", "weight_bytes_per_cycle = -", "cost: "),
        ("per_cycle = 1.5", "per_cycle = 0.0", "cost: "),
        ("softmax = { element", "softmax = { elephant", "cost: "),
        ("latency_s = 0.1", "latency_s = 0.0", "budgets: "),
        ("https://packages.debian.org/bookworm/libc6", "somebody told me", "sources: "),
        ("kind = \"ram\"", "kind = \"flash\"", "memory: "),
    ];
    for (from, to, check) in cases {
        match changed(from, to) {
            Err(Error::Invalid { failures, .. }) => {
                assert!(failures.iter().any(|f| f.starts_with(check)), "{from}: {failures:?}");
            }
            other => panic!("{from} → {to}: {other:?}"),
        }
    }
}

/// What a profile that somebody hands around could say, to have more done than to compile for a board.
#[test]
fn words_of_a_profile_are_nothing_but_words() {
    let cases = [
        // The separator of rustc's flags, as cargo takes them: this was a linker of one's own choice.
        (r#"name = "cortex-a72""#, r#"name = "cortex-a72\u001f-Clinker=/tmp/x""#),
        (r#"name = "cortex-a72""#, r#"name = "cortex-a72 -Clinker=/tmp/x""#),
        (r#"name = "cortex-a72""#, r#"name = "-Clinker=x""#),
        (r#"name = "cortex-a72""#, r#"name = """#),
        ("features = []", r#"features = ["neon,+x"]"#),
        ("features = []", r#"features = ["+neon\u001f-Zx"]"#),
        (r#"triple = "aarch64-unknown-linux-gnu""#, r#"triple = "aarch64/../x""#),
        (r#"linker = "aarch64-linux-gnu-gcc""#, r#"linker = "/tmp/x""#),
        (r#"linker = "aarch64-linux-gnu-gcc""#, r#"linker = "../gcc""#),
        (r#"linker = "aarch64-linux-gnu-gcc""#, r#"linker = "sh""#),
        (r#"linker = "aarch64-linux-gnu-gcc""#, r#"linker = "python3""#),
        (r#"program = "qemu-aarch64""#, r#"program = "sh""#),
        (r#"program = "qemu-aarch64""#, r#"program = "/tmp/qemu-x""#),
        (r#""-L", "/usr/aarch64-linux-gnu""#, r#""-plugin", "/tmp/x.so""#),
        (r#""-L", "/usr/aarch64-linux-gnu""#, r#""-E", "LD_PRELOAD=/tmp/x.so""#),
        (r#""-L", "/usr/aarch64-linux-gnu""#, r#""-L", "relative""#),
        (r#""-L", "/usr/aarch64-linux-gnu""#, r#""-L", "/usr/../tmp""#),
        (r#""-L", "/usr/aarch64-linux-gnu""#, r#""-L""#),
        (r#"packages = ["gcc-aarch64-linux-gnu""#, r#"packages = ["x; rm -rf ~""#),
        (r#"packages = ["gcc-aarch64-linux-gnu""#, r#"packages = ["-oDPkg::Pre-Invoke""#),
        (r#"rust_packages = ["rustc-web""#, r#"rust_packages = ["$(x)""#),
        (r#"libraries = ["ld-linux-aarch64.so.1""#, r#"libraries = ["a b""#),
        ("description = \"", "description = \"\\u001b]0;x\\u0007"),
        ("family = \"", "family = \"\\u202e"),
        ("boards = [\"", "boards = [\"a\\nb"),
    ];
    for (from, to) in cases {
        match changed(from, to) {
            Err(Error::Invalid { failures, .. }) => {
                assert!(failures.iter().any(|f| f.starts_with("words: ")), "{to}: {failures:?}");
                let controls = |f: &String| f.chars().any(|c| c.is_control() || c == '\u{202e}');
                assert!(!failures.iter().any(controls), "{failures:?}");
            }
            other => panic!("{from} → {to}: {other:?}"),
        }
    }
    for (from, to) in [
        ("features = []", r#"features = ["+neon", "-crc", "v8.2a"]"#),
        (r#"linker = "aarch64-linux-gnu-gcc""#, r#"linker = "aarch64-linux-gnu-gcc-12""#),
        (r#"linker = "aarch64-linux-gnu-gcc""#, r#"linker = "clang-19""#),
        (r#""-cpu", "cortex-a72""#, r#""-cpu", "max,sve=off""#),
    ] {
        changed(from, to).unwrap_or_else(|e| panic!("{to}: {e}"));
    }
}

#[test]
fn unknown_and_missing_keys_are_refused() {
    for (from, to, word) in [("cores = 4", "cores = 4\ncoers = 4", "coers"), ("cores = 4", "", "cores")] {
        match changed(from, to) {
            Err(Error::Parse { source, .. }) => assert!(source.to_string().contains(word), "{source}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn regions_with_addresses_must_not_overlap() {
    let at = |start: u64| {
        let region = "name = \"microSD card\"";
        let flash = changed("name = \"SDRAM\"", "name = \"SDRAM\"\nstart = 0x1000");
        let text = toml::to_string(&flash.unwrap()).unwrap();
        assert!(text.contains(region));
        parse(Path::new("placed.toml"), &text.replacen(region, &format!("{region}\nstart = {start}"), 1))
    };
    assert!(matches!(at(0x2000), Err(Error::Invalid { .. })));
    assert!(at(0x1_0000_0000).is_ok());
}

#[test]
fn folders_of_the_user_add_and_replace() {
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = SHIPPED[3];
    let mine = text.replacen("cores = 4", "cores = 2", 1);
    std::fs::write(folder.path().join("a.toml"), &mine).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a profile").unwrap();
    let folders = [folder.path().to_path_buf()];
    assert_eq!(find("raspberry-pi", &folders).unwrap().cpu.cores, 2);
    assert_eq!(all(&folders).unwrap().len(), SHIPPED.len());

    // under another id, the alias is taken twice
    std::fs::write(folder.path().join("a.toml"), mine.replacen("raspberry-pi-4", "my-board", 1)).unwrap();
    assert!(matches!(all(&folders), Err(Error::Ambiguous { name, .. }) if name == "raspberry-pi"));

    std::fs::write(folder.path().join("a.toml"), "id = ").unwrap();
    let error = all(&folders).unwrap_err();
    assert!(error.to_string().contains("a.toml"), "{error}");
    assert!(matches!(all(&[folder.path().join("none")]), Err(Error::Read { .. })));
}

#[test]
fn versions_of_the_c_library_compare_as_numbers() {
    let version = |text: &str| Glibc::try_from(text.to_owned());
    assert!(version("2.4").unwrap() < version("2.36").unwrap());
    assert_eq!(version("2.2.5").unwrap(), Glibc { major: 2, minor: 2 });
    assert!(version("two").is_err());
}

#[test]
fn the_layout_holds_a_microcontroller() {
    let mut profile = find("raspberry-pi", &[]).unwrap();
    let region = |name: &str, kind, start, bytes| Memory {
        name: name.into(),
        kind,
        start: Some(start),
        bytes,
        source: "estimate: a region for this test".into(),
    };
    profile.id = "some-cortex-m4".into();
    profile.aliases.clear();
    profile.cpu.name = "cortex-m4".into();
    profile.cpu.clock_hz = 64_000_000;
    profile.cpu.cores = 1;
    profile.memory = vec![
        region("flash", MemoryKind::Flash, 0x0800_0000, 512 << 10),
        region("sram", MemoryKind::Ram, 0x2000_0000, 96 << 10),
        region("sram2", MemoryKind::Ram, 0x2001_8000, 32 << 10),
    ];
    profile.system = None;
    profile.build.triple = "thumbv7em-none-eabihf".into();
    profile.build.machine = Machine::Arm;
    profile.build.linker = None;
    profile.budgets.ram = RamBytes(64 << 10);
    profile.budgets.flash = FlashBytes(256 << 10);
    let text = toml::to_string(&profile).unwrap();
    let read = parse(Path::new("some-cortex-m4.toml"), &text).unwrap();
    assert_eq!(read, profile);
    assert_eq!((read.flash(), read.ram()), (FlashBytes(512 << 10), RamBytes(128 << 10)));
}
