// Node's own cluster; NODE_CLUSTER_SCHED_POLICY says how it shares.
const cluster = require("node:cluster");

if (cluster.isPrimary) {
  for (let i = 0; i < Number(process.env.WORKERS); i++) cluster.fork();
} else {
  require("./hello.js");
}
