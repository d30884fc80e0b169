// The peer: graphile-worker with its fastest settings, a task that does nothing.
// usage: node graphile.js CONNINFO-URL JOBS   (drains JOBS preloaded jobs, prints jobs per second)
//        node graphile.js CONNINFO-URL latency (prints "id microseconds" of each start on a line)
//        node graphile.js CONNINFO-URL http    (prints a port, where each POST becomes a job before it is answered)
const { run, makeWorkerUtils } = require("graphile-worker");
const [url, what] = process.argv.slice(2);
const jobs = what === "latency" ? Infinity : Number(what);
let n = 0, started;
const finished = new Promise((resolve) => {
  globalThis.done = resolve;
});
async function serve() {
  const utils = await makeWorkerUtils({ connectionString: url, maxPoolSize: 10 });
  await utils.migrate();
  const server = require("http").createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part)).on("end", async () => {
      const job = await utils.addJob("bench", JSON.parse(Buffer.concat(parts)));
      response.writeHead(202, { "content-type": "application/json" });
      response.end(JSON.stringify({ id: job.id }));
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}
async function main() {
  if (what === "http") return serve();
  const runner = await run({
    taskList: {
      bench: () => {
        if (n++ === 0) started = process.hrtime.bigint();
        if (n === jobs) globalThis.done();
      },
      latency: (payload) => {
        console.log(payload.n, process.hrtime.bigint() / 1000n + "");
      },
    },
    preset: {
      worker: {
        connectionString: url, concurrentJobs: 24, maxPoolSize: 10, pollInterval: 2000,
        ...(what === "latency" ? {} : { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }),
      },
    },
    logger: new (require("graphile-worker").Logger)(() => () => {}),
  });
  if (what === "latency") { console.log("ready"); process.stdin.on("end", () => runner.stop()).resume(); return; }
  await finished;
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  await runner.stop();
  console.log(Math.round(jobs / seconds));
}
main().catch((e) => { console.error(e); process.exit(1); });
