//! Ring 4 without containers: real runtimes as workers, four on one port.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::harness::{
    Clinit, DEADLINE, Dir, Gone, Setup, cannot_run, descendants, get, program, send,
};

const NODE: &str = "
const http = require('http');
http.createServer((request, response) => {
  response.setHeader('Connection', 'close');
  response.end(`pid=${process.pid} slot=${process.env.NODE_APP_INSTANCE}\\n`);
}).listen({ fd: 3 });
";

/// The study-note server.
const NODE_THAT_EXITS: &str = "
const http = require('http');
http.createServer((request, response) => {
  response.setHeader('Connection', 'close');
  response.end(`pid=${process.pid}\\n`, () => process.exit(1));
}).listen({ fd: 3 });
";

const PYTHON: &str = "
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f'pid={os.getpid()} slot={os.environ[\"CLINIT_SLOT\"]}\\n'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(('', 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.serve_forever()
";

const ASGI: &str = "
import os
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            message = await receive()
            await send({'type': message['type'] + '.complete'})
            if message['type'] == 'lifespan.shutdown':
                return
    body = f'pid={os.getpid()}\\n'.encode()
    await send({'type': 'http.response.start', 'status': 200,
                'headers': [(b'content-length', str(len(body)).encode())]})
    await send({'type': 'http.response.body', 'body': body})
";

fn runtime(name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        cannot_run("RING 4", &format!("there is no {name}"));
    }
    found
}

fn uvicorn() -> Option<PathBuf> {
    let given = std::env::var_os("UVICORN").map(PathBuf::from);
    let built = || {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("target/venv/bin/uvicorn");
        path.is_file().then_some(path)
    };
    let found = given.or_else(built).or_else(|| program("uvicorn"));
    // A shim without a version behind it is none.
    let works = |path: &PathBuf| {
        let output = std::process::Command::new(path).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = found.filter(works);
    if found.is_none() {
        cannot_run("RING 4", "there is no uvicorn, on the PATH or in UVICORN");
    }
    found
}

fn pid_of(answer: &str) -> i32 {
    let word = answer
        .split_whitespace()
        .find_map(|word| word.strip_prefix("pid="));
    word.and_then(|pid| pid.parse().ok())
        .unwrap_or_else(|| panic!("{answer:?}"))
}

/// Asks until so many workers have answered. Some connections are held open
/// without a word beside it, which takes up workers that serve one at a time.
fn all_answer(clinit: &mut Clinit, address: SocketAddr, count: usize) -> BTreeSet<i32> {
    let start = Instant::now();
    let mut pids = BTreeSet::new();
    while pids.len() < count {
        let clients: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(move || get(address)))
            .collect();
        for client in clients {
            let answer = client.join().unwrap();
            pids.insert(pid_of(
                &answer.unwrap_or_else(|error| clinit.fail(&error.to_string())),
            ));
        }
        if start.elapsed() > DEADLINE {
            clinit.fail(&format!("only these have answered: {pids:?}"));
        }
    }
    pids
}

/// Four workers all answer; one dies while a client sends requests, and no
/// later request fails.
fn serves_and_heals(setup: Setup) {
    let mut clinit = setup.start();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, clinit.port()));
    let pids = all_answer(&mut clinit, address, 4);
    assert_eq!(pids.len(), 4, "four workers, each itself: {pids:?}");
    let victim = *pids.first().unwrap();
    let (killed, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while !over.load(Ordering::SeqCst) {
                        // The one that the victim was answering may fail.
                        let later = killed.load(Ordering::SeqCst);
                        if let (Err(error), true) = (get(address), later) {
                            failures.push(error.to_string());
                        }
                    }
                    failures
                })
            })
            .collect();
        send(victim, libc::SIGKILL);
        clinit.wait_gone(victim);
        killed.store(true, Ordering::SeqCst);
        // Until its successor answers as well.
        let start = Instant::now();
        let mut seen: BTreeSet<i32> = BTreeSet::new();
        while seen.difference(&pids).count() == 0 && start.elapsed() < DEADLINE {
            match get(address) {
                Ok(answer) => {
                    seen.insert(pid_of(&answer));
                }
                Err(error) => {
                    over.store(true, Ordering::SeqCst);
                    panic!("{error}");
                }
            }
        }
        over.store(true, Ordering::SeqCst);
        assert!(
            seen.difference(&pids).count() > 0,
            "no successor answers: {seen:?}"
        );
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(failures, [""; 0]);
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn node_serves_from_descriptor_3() {
    let (Some(node), dir) = (runtime("node"), Dir::new()) else {
        return;
    };
    let server = dir.write("server.js", NODE, 0o644);
    serves_and_heals(Setup::new("-i 4 -l 127.0.0.1:0").command(&[node.to_str().unwrap(), &server]));
}

#[test]
fn python_serves_from_descriptor_3() {
    let (Some(python), dir) = (runtime("python3"), Dir::new()) else {
        return;
    };
    let server = dir.write("server.py", PYTHON, 0o644);
    serves_and_heals(
        Setup::new("-i 4 -l 127.0.0.1:0").command(&[python.to_str().unwrap(), &server]),
    );
}

/// What grpcio does when it stops.
const PYTHON_THAT_SHUTS_DOWN: &str = r#"
import os, socket
listener = socket.socket(fileno=3)
with open(os.environ["REPORT"], "w") as report:
    report.write(f"{os.getpid()}\t-\tup\t\n")
client, _ = listener.accept()
client.recv(4096)
client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
client.close()
listener.shutdown(socket.SHUT_RDWR)
os._exit(1)
"#;

#[test]
fn a_listener_that_a_worker_shut_down_listens_again() {
    let (Some(python), dir) = (runtime("python3"), Dir::new()) else {
        return;
    };
    let server = dir.write("server.py", PYTHON_THAT_SHUTS_DOWN, 0o644);
    // A port that the kernel chose is lost with the shutdown, so one has to be
    // found for it.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let options = format!("-i 1 -l {address} --backoff 1ms..1ms --max-restarts 100");
    let mut clinit = Setup::new(&options)
        .command(&[python.to_str().unwrap(), &server])
        .start();
    for round in 0..3 {
        let _ = clinit.reports("up", 1);
        get(address).unwrap_or_else(|error| clinit.fail(&format!("round {round}: {error}")));
    }
    clinit.end_by(libc::SIGTERM).expect(0);
}

#[test]
fn uvicorn_serves_from_the_descriptor_that_it_is_told() {
    let (Some(uvicorn), dir) = (uvicorn(), Dir::new()) else {
        return;
    };
    let app = dir.write("app.py", ASGI, 0o644);
    let directory = app.strip_suffix("/app.py").unwrap();
    let uvicorn = uvicorn.to_str().unwrap();
    let command = [
        uvicorn,
        "--app-dir",
        directory,
        "--fd",
        "{fd}",
        "--log-level",
        "warning",
        "app:app",
    ];
    serves_and_heals(Setup::new("-i 4 -l 127.0.0.1:0").command(&command));
}

#[test]
fn node_that_exits_after_each_answer_is_there_for_the_next() {
    let (Some(node), dir) = (runtime("node"), Dir::new()) else {
        return;
    };
    let server = dir.write("server.js", NODE_THAT_EXITS, 0o644);
    for instances in [1, 2] {
        let options = format!("-i {instances} -l 127.0.0.1:0 --max-restarts 3 --backoff 10m..10m");
        let mut clinit = Setup::new(&options)
            .command(&[node.to_str().unwrap(), &server])
            .start();
        let address = (Ipv4Addr::LOCALHOST, clinit.port());
        let mut pids = BTreeSet::new();
        for number in 0..20 {
            let answer = get(address);
            let answer = answer.unwrap_or_else(|error| {
                clinit.fail(&format!("-i {instances}, request {number}: {error}"))
            });
            assert!(
                pids.insert(pid_of(&answer)),
                "each answer is another process's"
            );
        }
        clinit.end_by(libc::SIGTERM).expect(0);
    }
}

#[test]
fn npm_start_leaves_nothing_behind() {
    let (Some(npm), Some(_), dir) = (runtime("npm"), runtime("node"), Dir::new()) else {
        return;
    };
    // npm runs a shell, which runs node: what serves is a grandchild.
    dir.write(
        "package.json",
        r#"{"name":"a","version":"1.0.0","scripts":{"start":"node server.js & wait"}}"#,
        0o644,
    );
    let listens = NODE.replace("listen({ fd: 3 })", "listen(0, '127.0.0.1', function () { require('fs').writeFileSync(process.env.REPORT, `${process.pid}\\t-\\tup\\t${this.address().port}\\n`) })");
    dir.write("server.js", &listens, 0o644);
    for options in ["-i 2", ""] {
        let mut clinit = Setup::new(options)
            .arg("--chdir")
            .arg(dir.path("").trim_end_matches('/'))
            .env("npm_config_update_notifier", "false")
            .command(&[npm.to_str().unwrap(), "start"])
            .start();
        let count = if options.is_empty() { 1 } else { 2 };
        let ports: Vec<u16> = clinit
            .reports("up", count)
            .iter()
            .map(|report| report.text().parse().unwrap())
            .collect();
        let pid = clinit.pid();
        let tree = descendants(pid);
        assert!(tree.len() >= 3 * count, "npm, sh and node: {tree:?}");
        let watched = Gone::watch(&tree);
        for port in &ports {
            get((Ipv4Addr::LOCALHOST, *port)).unwrap();
        }
        let ended = clinit.end_by(libc::SIGTERM);
        if !options.is_empty() {
            ended.expect(0);
        }
        watched.assert();
        for port in ports {
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        }
    }
}
