// What people do with dockerode and testcontainers, one line for each.
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import Docker from "dockerode";

process.env.TESTCONTAINERS_RYUK_DISABLED = "true";
const { GenericContainer, Network, Wait } = await import("testcontainers");
const docker = new Docker();
const IMAGE = "busybox:latest";

function equal(actual, expected, what = "") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what} is ${a}, not ${b}`);
}

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts.map((part) => Buffer.from(part))).toString();
}

function demuxed(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => (out.end(), err.end()));
  return Promise.all([text(out), text(err)]);
}

async function container(options, use) {
  const made = await docker.createContainer({ Image: IMAGE, ...options });
  try {
    return await use(made);
  } finally {
    await made.remove({ force: true, v: true });
  }
}

const tests = {
  async "dockerode ping, version, info"() {
    equal((await docker.ping()).toString(), "OK");
    equal((await docker.version()).Os, "linux");
    equal((await docker.info()).OSType, "linux");
  },
  async "dockerode run with output"() {
    const out = new PassThrough();
    const told = text(out);
    const [result, made] = await docker.run(IMAGE, ["echo", "hello"], out);
    out.end();
    equal(result.StatusCode, 0);
    equal((await told).trim(), "hello");
    await made.remove();
  },
  async "dockerode create, start, wait, logs"() {
    await container({ Cmd: ["sh", "-c", "echo out; echo err >&2; exit 3"] }, async (made) => {
      await made.start();
      equal((await made.wait()).StatusCode, 3);
      const stream = await made.logs({ stdout: true, stderr: true, follow: true });
      equal(await demuxed(stream), ["out\n", "err\n"]);
    });
  },
  async "dockerode attach before start, with input"() {
    const options = { Cmd: ["cat"], OpenStdin: true, StdinOnce: true, AttachStdin: true };
    await container(options, async (made) => {
      const stream = await made.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
      const told = demuxed(stream);
      await made.start();
      stream.end("through the pipe");
      equal((await told)[0], "through the pipe");
    });
  },
  async "dockerode exec, plain and with a terminal"() {
    await container({ Cmd: ["sleep", "600"] }, async (made) => {
      await made.start();
      for (const Tty of [false, true]) {
        const exec = await made.exec({ Cmd: ["echo", "here"], AttachStdout: true, AttachStderr: true, Tty });
        const stream = await exec.start({ hijack: true, stdin: false, Tty });
        const told = Tty ? await text(stream) : (await demuxed(stream))[0];
        equal(told.trim(), "here");
        equal((await exec.inspect()).ExitCode, 0);
      }
    });
  },
  async "dockerode events"() {
    const events = await docker.getEvents({ filters: { type: ["container"] } });
    const seen = [];
    events.on("data", (data) => seen.push(...data.toString().trim().split("\n").map((line) => JSON.parse(line).Action)));
    await container({ Cmd: ["true"] }, async (made) => {
      await made.start();
      await made.wait();
    });
    for (let turn = 0; turn < 200 && !seen.includes("destroy"); turn++) await sleep(50);
    events.destroy();
    for (const action of ["create", "start", "die", "destroy"]) equal(seen.includes(action), true, action);
  },
  async "dockerode archives both ways"() {
    await container({ Cmd: ["sleep", "600"] }, async (made) => {
      await made.start();
      const archive = await made.getArchive({ path: "/etc/passwd" });
      const bytes = [];
      for await (const part of archive) bytes.push(part);
      await made.putArchive(Buffer.concat(bytes), { path: "/tmp" });
      const exec = await made.exec({ Cmd: ["cmp", "/etc/passwd", "/tmp/passwd"], AttachStdout: true });
      await text(await exec.start({}));
      equal((await exec.inspect()).ExitCode, 0);
    });
  },
  async "dockerode images: pull with progress, tag, history, inspect, remove"() {
    const stream = await docker.pull(IMAGE);
    await new Promise((resolve, reject) => docker.modem.followProgress(stream, (error, all) => (error ? reject(error) : resolve(all))));
    await docker.getImage(IMAGE).tag({ repo: "tagged", tag: "one" });
    equal((await docker.getImage("tagged:one").history()).length > 0, true);
    equal((await docker.listImages({ filters: { reference: ["tagged"] } })).length, 1);
    await docker.getImage("tagged:one").remove();
    const missing = await docker.getImage("tagged:one").inspect().catch((error) => error.statusCode);
    equal(missing, 404);
  },
  async "dockerode build from a stream"() {
    const { pack } = await import("tar-stream");
    const context = pack();
    context.entry({ name: "Dockerfile" }, `FROM ${IMAGE}\nRUN echo made > /made\nCMD ["cat", "/made"]\n`);
    context.finalize();
    const stream = await docker.buildImage(context, { t: "built:one" });
    const lines = await new Promise((resolve, reject) => docker.modem.followProgress(stream, (error, all) => (error ? reject(error) : resolve(all))));
    equal(lines.some((line) => /Successfully built/.test(line.stream ?? "")), true, "Successfully built");
    await docker.getImage("built:one").remove();
  },
  async "dockerode volumes and networks"() {
    const volume = await docker.createVolume({ Name: "node-volume", Labels: { a: "b" } });
    equal((await docker.listVolumes({ filters: { label: ["a=b"] } })).Volumes.length, 1);
    const network = await docker.createNetwork({ Name: "node-network" });
    await container({ Cmd: ["sleep", "600"] }, async (made) => {
      await made.start();
      await network.connect({ Container: made.id });
      equal(Object.keys((await network.inspect()).Containers), [made.id]);
      await network.disconnect({ Container: made.id, Force: true });
    });
    await network.remove();
    await docker.getVolume(volume.Name ?? volume.name).remove();
  },
  async "dockerode stats, top, pause, rename, update, restart, kill"() {
    await container({ Cmd: ["sleep", "600"], name: "node-one" }, async (made) => {
      await made.start();
      equal((await made.stats({ stream: false })).memory_stats.usage > 0, true, "memory");
      equal((await made.top()).Processes.length, 1);
      await made.pause();
      equal((await made.inspect()).State.Paused, true);
      await made.unpause();
      await made.rename({ name: "node-two" });
      await made.update({ Memory: 64 << 20, MemorySwap: 64 << 20 });
      await made.restart({ t: 0 });
      await made.kill();
    });
  },
  async "dockerode errors have statuses and words"() {
    const error = await docker.getContainer("nobody").inspect().catch((error) => error);
    equal([error.statusCode, error.json?.message], [404, "No such container: nobody"]);
    const running = await container({ Cmd: ["sleep", "600"] }, async (made) => {
      await made.start();
      return made.remove().catch((error) => error.statusCode);
    });
    equal(running, 409);
  },
  async "testcontainers: ports, logs, exec, files"() {
    const started = await new GenericContainer(IMAGE)
      .withCommand(["sh", "-c", "echo hello > /index.html; echo ready; exec httpd -f -p 80 -h /"])
      .withCopyContentToContainer([{ content: "from outside", target: "/outside" }])
      .withExposedPorts(80)
      .withWaitStrategy(Wait.forLogMessage("ready"))
      .start();
    try {
      const answer = await fetch(`http://${started.getHost()}:${started.getMappedPort(80)}/`);
      equal((await answer.text()).trim(), "hello");
      equal((await started.exec(["cat", "/outside"])).output, "from outside");
    } finally {
      await started.stop();
    }
  },
  async "testcontainers: wait for a port and for health"() {
    const started = await new GenericContainer(IMAGE)
      .withCommand(["httpd", "-f", "-p", "80", "-h", "/etc"])
      .withExposedPorts(80)
      .withHealthCheck({ test: ["CMD-SHELL", "wget -q -O- http://127.0.0.1/hostname"], interval: 200, timeout: 3000, retries: 20 })
      .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forHealthCheck()]))
      .start();
    await started.stop();
  },
  async "testcontainers: networks and aliases"() {
    const network = await new Network().start();
    const server = await new GenericContainer(IMAGE)
      .withNetwork(network)
      .withNetworkAliases("server")
      .withCommand(["httpd", "-f", "-p", "80", "-h", "/etc"])
      .start();
    const client = await new GenericContainer(IMAGE).withNetwork(network).withCommand(["sleep", "600"]).start();
    const result = await client.exec(["wget", "-q", "-O-", "http://server/hostname"]);
    equal(result.exitCode, 0, result.output);
    await client.stop();
    await server.stop();
    await network.stop();
  },
};

for (const [name, test] of Object.entries(tests)) {
  try {
    await Promise.race([test(), sleep(60_000, null, { ref: false }).then(() => Promise.reject(new Error("took more than a minute")))]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${String(error?.message ?? error).replaceAll(/\s+/g, " ").slice(0, 300)}`);
  }
}
process.exit(0);
