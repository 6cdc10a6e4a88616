//! Hooks of others: taken from files and git repositories, pinned by digest, and kept away from secrets.

use std::path::Path;
use std::process::Command;

use super::*;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with one hook at the tag `v1`, changed at its head.
fn repository() -> Project {
    let elsewhere = Project::empty();
    git(elsewhere.path(), &["init", "--quiet"]);
    elsewhere.write("hooks/shop.toml", HOOK);
    elsewhere.write("hooks/shop.cassette.jsonl", "{\"haul_cassette\":1,\"of\":\"shop\",\"connections\":{}}\n");
    elsewhere.write("hooks/shop.sh", "echo never\n");
    git(elsewhere.path(), &["add", "."]);
    git(elsewhere.path(), &["commit", "--quiet", "-m", "one"]);
    git(elsewhere.path(), &["tag", "v1"]);
    elsewhere.write("hooks/shop.toml", &HOOK.replace("A shop", "A better shop"));
    std::fs::remove_file(elsewhere.path().join("hooks/shop.cassette.jsonl")).expect("it was there");
    git(elsewhere.path(), &["add", "--all"]);
    git(elsewhere.path(), &["commit", "--quiet", "-m", "two"]);
    elsewhere
}

fn address(repository: &Project) -> String {
    format!("file://{}", repository.path().display())
}

#[test]
fn a_hook_comes_from_a_repository_at_its_revision_and_goes_on_with_it() {
    let source = repository();
    let project = Project::with_api("http://127.0.0.1:9", "");
    let added = ran(&project, &["hooks", "add", &address(&source), "--rev", "v1"]).well();
    let commit = git(source.path(), &["rev-parse", "v1"]);
    assert!(added.out.contains(&commit[..12]), "{}", added.told());
    assert!(project.path().join("hooks/shop.cassette.jsonl").is_file());
    assert!(!project.path().join("hooks/shop.sh").exists(), "a program is no part of a hook");
    let lock = std::fs::read_to_string(project.path().join("hooks.lock")).expect("a lock");
    assert!(lock.contains(&commit) && lock.contains("rev = \"v1\"") && lock.contains("sha256:"), "{lock}");
    ran(&project, &["check"]).well();
    ran(&project, &["hooks", "list"]).refused(0, &["A shop", "v1", &commit[..7]]);
    ran(&project, &["hooks", "add", &address(&source)]).refused(2, &["was added before", "haul hooks update shop"]);

    ran(&project, &["hooks", "update", "shop"]).refused(0, &["unchanged"]);
    let head = git(source.path(), &["rev-parse", "HEAD"]);
    ran(&project, &["hooks", "update", "shop", "--rev", &head]).refused(0, &["updated", &head[..12]]);
    ran(&project, &["hooks", "show", "shop"]).refused(0, &["A better shop", &head]);
    assert!(!project.path().join("hooks/shop.cassette.jsonl").exists(), "what the hook no longer has went away");
    ran(&project, &["hooks", "update", "shop", "--rev", "v9"]).refused(1, &["running git fetch", "v9"]);
    ran(&project, &["check"]).well();

    ran(&project, &["hooks", "remove", "shop"]).refused(0, &["removed"]);
    assert!(!project.path().join("hooks/shop.toml").exists() && !project.path().join("hooks.lock").exists());
}

#[test]
fn a_hook_that_was_changed_by_hand_is_refused_until_somebody_accepts_it() {
    let source = Project::empty();
    source.write("hooks/shop.toml", HOOK);
    let from = source.path().join("hooks/shop.toml").display().to_string();
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write("pipelines/p.toml", PIPELINE);
    ran(&project, &["hooks", "add", &from]).well();
    ran(&project, &["check"]).well();

    project.write("hooks/shop.toml", &HOOK.replace("/items", "/other"));
    for command in [&["check"][..], &["run", "p"], &["hooks", "list"]] {
        ran(&project, command).refused(
            2,
            &["the hook `shop` is not what was taken from", "haul hooks pin shop", "haul hooks update shop"],
        );
    }
    ran(&project, &["hooks", "pin", "shop"]).refused(0, &["pinned", "no longer what its source has"]);
    ran(&project, &["check"]).well();
    ran(&project, &["hooks", "update", "shop"]).refused(2, &["changed here", "--force"]);
    ran(&project, &["hooks", "update", "shop", "--force"]).refused(0, &["updated"]);
    assert_eq!(std::fs::read_to_string(project.path().join("hooks/shop.toml")).expect("the hook"), HOOK);

    std::fs::remove_file(project.path().join("hooks/shop.toml")).expect("it was there");
    ran(&project, &["check"]).refused(2, &["a file of the hook `shop` cannot be read"]);
    ran(&project, &["hooks", "update", "shop"]).refused(0, &["updated"]);
    ran(&project, &["check"]).well();
    ran(&project, &["hooks", "remove", "shop"]).refused(2, &["is used by p.items"]);
    ran(&project, &["hooks", "remove", "shop", "--force"]).well();
}

#[test]
fn names_and_sources_that_cannot_be_are_refused_and_leave_nothing() {
    let source = repository();
    source.write("hooks/other.toml", HOOK);
    source.write("hooks/broken.toml", "recrods = \"$\"\n");
    git(source.path(), &["add", "."]);
    git(source.path(), &["commit", "--quiet", "-m", "three"]);
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write("hooks/shop.toml", HOOK);
    let from = address(&source);
    ran(&project, &["hooks", "add", &from]).refused(2, &["several hooks", "--path hooks/other.toml"]);
    let shop = ["hooks", "add", &from, "--path", "hooks/shop.toml"];
    ran(&project, &shop).refused(2, &["a hook `shop` of its own", "--name"]);
    ran(&project, &["hooks", "add", &from, "--path", "hooks/broken.toml"])
        .refused(2, &["no hook that this haul understands", "recrods", "did you mean `records`?"]);
    ran(&project, &["hooks", "add", &from, "--path", "../shop.toml"]).refused(2, &["has no file"]);
    ran(&project, &["hooks", "add", "nowhere.toml"]).refused(2, &["there is no hook `nowhere.toml`"]);
    ran(&project, &[&shop[..], &["--name", "../shop"]].concat()).refused(2, &["cannot be the name of a hook"]);
    ran(&project, &["hooks", "pin", "shop"]).refused(2, &["no hook of others"]);
    assert!(!project.path().join("hooks.lock").exists());
    ran(&project, &[&shop[..], &["--name", "theirs"]].concat()).well();
    ran(&project, &["hooks", "show", "theirs"]).refused(0, &["A better shop"]);
}

#[test]
fn a_hook_of_others_reaches_neither_environment_nor_another_host() {
    let (api, evil) = (items(), items());
    let source = Project::empty();
    source.write("hooks/env.toml", "connection = \"api\"\nrequest = { path = \"/{{ env_var('HOME') }}\" }\n");
    let url = format!("connection = \"api\"\nrequest = {{ path = \"{}/x\" }}\nrecords = \"$.items[*]\"\n", evil.url);
    source.write("hooks/far.toml", &url);
    let project = Project::with_api(&api.url, "auth = { type = \"bearer\", token = \"a-secret-token\" }");
    for name in ["env", "far"] {
        let from = source.path().join(format!("hooks/{name}.toml"));
        ran(&project, &["hooks", "add", &from.display().to_string()]).well();
        project.write("pipelines/p.toml", &PIPELINE.replace("shop", name));
        let told = ran(&project, &["run", "p", "--date", "2024-05-04"]);
        assert!(matches!(told.code, Some(1 | 2)), "{}", told.told());
        let expected =
            if name == "env" { "reads no variable of the environment" } else { "not the host of the connection" };
        assert!(told.told().contains(expected), "{}", told.told());
    }
    assert!(evil.asked().is_empty() && api.asked().is_empty());
    // The project's own hooks may.
    project.write("hooks/own.toml", &url);
    project.write("pipelines/p.toml", &PIPELINE.replace("shop", "own"));
    ran(&project, &["run", "p", "--date", "2024-05-04"]).well();
    assert_eq!(evil.asked().len(), 1);
}

#[test]
fn a_hook_that_runs_a_program_says_so_before_it_comes() {
    let source = Project::empty();
    source.write("hooks/tap.toml", "type = \"process\"\ncommand = [\"tap-github\"]\n");
    let project = Project::with_api("http://127.0.0.1:9", "");
    let from = source.path().join("hooks/tap.toml").display().to_string();
    ran(&project, &["hooks", "add", &from]).refused(2, &["runs a program on this machine", "--allow-programs"]);
    assert!(!project.path().join("hooks/tap.toml").exists());
    ran(&project, &["hooks", "add", &from, "--allow-programs"]).refused(0, &["added tap"]);
    // A test runs nothing that no cassette has.
    let extract = "[[extract]]\nname = \"rows\"\nhook = \"tap\"\nwrite = \"full\"\n";
    project.write("pipelines/p.toml", extract);
    let test = "pipeline = \"p\"\ndate = 2024-05-04\nstatus = \"failed\"\ntells = \"runs a program\"\n";
    project.write("tests/p.toml", test);
    ran(&project, &["test"]).refused(0, &["1 passed"]);
}
