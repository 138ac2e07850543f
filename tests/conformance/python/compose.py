"""docker-compose 1.29 against an engine, command by command: one line for each test, as `cargo xtask conformance` reads them."""

import os
import pathlib
import subprocess
import sys
import textwrap
import time

PROGRAM = "/usr/bin/docker-compose"
APP = """
    version: "2.4"
    services:
      web:
        image: busybox
        init: true
        command: sh -c 'mkdir -p /w; echo hello > /w/index.html; echo serving; exec httpd -f -p 80 -h /w'
        ports: ["127.0.0.1::80"]
        environment: {A: "b c"}
        labels: {x.y: z}
        depends_on: {store: {condition: service_healthy}}
        volumes: ["data:/data", "./file:/file:ro", "/anonymous"]
      store:
        image: busybox
        init: true
        command: sleep 600
        healthcheck: {test: ["CMD", "true"], interval: 200ms}
        mem_limit: 64m
        networks: {default: {aliases: [cache]}}
    volumes: {data: {}}
"""
BUILT = """
    version: "3.8"
    services:
      built:
        build: {context: ./src, args: {WHAT: made}}
        image: compose-built
"""
folder = pathlib.Path(sys.argv[1]) / "project"
tests = []


def test(function):
    tests.append(function)
    return function


def compose(*words, code=0, text="", file="docker-compose.yml"):
    done = subprocess.run([PROGRAM, "--no-ansi", "-f", file, *words], cwd=folder, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{' '.join(words)} ended with {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout


def has(text, *parts):
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"


def until(what, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.1)


@test
def config():
    has(compose("config", "--services"), "web", "store")
    has(compose("config", "--volumes"), "data")
    has(compose("config"), "127.0.0.1::80/tcp")


@test
def up_waits_for_health():
    compose("up", "-d")
    has(compose("ps"), "project_web_1", "project_store_1", "Up (healthy)", "80/tcp")


@test
def up_again_changes_nothing():
    before = compose("ps", "-q")
    compose("up", "-d")
    assert compose("ps", "-q") == before


@test
def port_and_page():
    import urllib.request

    address = compose("port", "web", "80").strip()
    until("the page", lambda: "serving" in compose("logs", "web"))
    has(urllib.request.urlopen(f"http://{address}/", timeout=30).read().decode(), "hello")


@test
def logs():
    has(compose("logs", "--tail", "5", "-t", "web"), "web_1", "serving")


@test
def execs():
    has(compose("exec", "-T", "web", "sh", "-c", "echo $A; cat /file"), "b c", "from the host")
    compose("exec", "-T", "web", "sh", "-c", "exit 3", code=3)
    has(compose("exec", "-T", "web", "nslookup", "cache"), "Address")


@test
def run():
    has(compose("run", "--rm", "-T", "--no-deps", "-e", "C=d", "store", "sh", "-c", "echo $C"), "d")
    compose("run", "--rm", "-T", "--no-deps", "store", "sh", "-c", "exit 4", code=4)
    has(compose("run", "--rm", "-T", "--no-deps", "store", "cat", text="typed\n"), "typed")


@test
def scale():
    compose("up", "-d", "--scale", "store=3", "--no-recreate")
    assert len(compose("ps", "-q", "store").split()) == 3
    compose("up", "-d", "--scale", "store=1")
    assert len(compose("ps", "-q", "store").split()) == 1


@test
def changes_recreate():
    before = compose("ps", "-q", "web")
    (folder / "override.yml").write_text('version: "2.4"\nservices: {web: {environment: {A: changed}}}\n')
    done = subprocess.run([PROGRAM, "-f", "docker-compose.yml", "-f", "override.yml", "up", "-d"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert compose("ps", "-q", "web") != before
    has(compose("exec", "-T", "web", "sh", "-c", "echo $A"), "changed")


@test
def stop_start_restart_pause_kill():
    for words in (["stop", "-t", "1"], ["start"], ["restart", "-t", "1"], ["pause"], ["unpause"], ["kill"], ["start"]):
        compose(*words)
    has(compose("ps"), "Up")


@test
def top_and_images():
    has(compose("top"), "httpd")
    has(compose("images"), "busybox")


@test
def events():
    process = subprocess.Popen([PROGRAM, "events", "--json"], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        # The stream says nothing when it begins: things happen until one is told.
        from threading import Thread

        seen = []
        reader = Thread(target=lambda: seen.append(process.stdout.readline()), daemon=True)
        reader.start()
        until("an event", lambda: compose("exec", "-T", "store", "true") == "" and bool(seen))
        has(seen[0], '"service": "')
    finally:
        process.terminate()
        process.wait()


@test
def up_in_the_foreground_ends_with_the_code():
    text = 'version: "2.4"\nservices: {one: {image: busybox, command: sh -c "echo said; exit 7"}}\n'
    (folder / "one.yml").write_text(text)
    has(compose("-p", "one", "up", "--exit-code-from", "one", code=7, file="one.yml"), "said")
    compose("-p", "one", "down", file="one.yml")


@test
def build_and_run_it():
    (folder / "src").mkdir()
    (folder / "src/Dockerfile").write_text("FROM busybox\nARG WHAT\nRUN echo $WHAT > /made\nCMD cat /made\n")
    (folder / "built.yml").write_text(textwrap.dedent(BUILT))
    compose("-p", "built", "build", file="built.yml")
    has(compose("-p", "built", "run", "--rm", "-T", "built", file="built.yml"), "made")
    compose("-p", "built", "down", "--rmi", "all", file="built.yml")


@test
def pull():
    compose("pull", "-q")


@test
def rm_and_down():
    compose("stop", "-t", "1")
    compose("rm", "-f", "-v")
    compose("up", "-d")
    compose("down", "-v", "-t", "1")
    assert compose("ps", "-q") == ""


def main():
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "docker-compose.yml").write_text(textwrap.dedent(APP))
    (folder / "file").write_text("from the host\n")
    os.environ["COMPOSE_PROJECT_NAME"] = "project"
    for one in tests:
        name = one.__name__.replace("_", " ")
        try:
            one()
            print(f"ok {name}", flush=True)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            print(f"not ok {name}: {' '.join(str(error).split())[:300]}", flush=True)
    subprocess.run([PROGRAM, "down", "-v", "-t", "0"], cwd=folder, capture_output=True)
    shutil.rmtree(folder)


main()
