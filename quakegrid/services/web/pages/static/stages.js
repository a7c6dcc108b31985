// The stages of a calculation: as its driver counts them while it runs. Those that the driver does not tell of, and all
// when it has ended before, are made of what the engine says in its log of its progress.

import { byId, counted, element, seconds } from "/static/common.js";

const PROGRESS = /^\s*(\S+)\s+(\d{1,3})% \[(\d+) submitted, (\d+) queued\]/;
const SENT = /^Sent (\d+) (\S+) tasks/;
const stages = new Map();
const told = new Map();
let end = "";

/** Take what the driver of a calculation tells; what it told last stays when it tells no more. */
export function takeStages(found) {
  for (const each of found) {
    const done = Math.floor((100 * each.done_count) / Math.max(each.total_count, 1));
    told.set(each.operation, {
      name: each.operation, begin: each.begin_s, last: each.change_s, done, tasks: each.total_count,
      count: each.done_count, replayed: each.replayed_count,
    });
  }
  if (found.length > 0) drawStages();
}

/** Take lines of the log: [time, level, process, message]. */
export function takeLines(lines) {
  let isNew = false;
  for (const [time, , , message] of lines) {
    const at = Date.parse(`${time}Z`) / 1000;
    const sent = SENT.exec(message);
    const found = PROGRESS.exec(message);
    if (sent) send(stage(sent[2], at), Number(sent[1]));
    if (found) Object.assign(stage(found[1], at), { done: Number(found[2]), last: at }, counts(stage(found[1], at), Number(found[3]) + Number(found[4])));
    isNew ||= Boolean(sent || found);
  }
  if (isNew) drawStages();
}

/** Tasks that were sent: an operation may run several times, each with tasks of its own. */
function send(found, count) {
  if (found.isCounted || found.now > 0) found.before += found.now;
  Object.assign(found, { now: count, tasks: found.before + count, isCounted: false });
}

/** Tasks of which some are done: they may have become more, since long ones are split. */
function counts(found, submitted) {
  const now = Math.max(found.now, submitted);
  return { now, tasks: found.before + now, isCounted: true };
}

function stage(name, at) {
  if (!stages.has(name)) stages.set(name, { name, begin: at, last: at, done: 0, tasks: 0, before: 0, now: 0, isCounted: false });
  return stages.get(name);
}

/** The calculation has ended in this state: what is not done will not be. */
export function endStages(state) {
  end = state;
  drawStages();
}

export function drawStages() {
  const logged = [...stages.values()].filter((each) => !told.has(each.name));
  const found = [...logged, ...told.values()].sort((one, other) => one.begin - other.begin);
  byId("stages-box").hidden = found.length === 0;
  byId("stages").replaceChildren(...found.map((each, index) => bar(each, told.has(each.name) ? undefined : found[index + 1])));
}

/** A stage of the log is done as well when the next one has begun, or all is complete: not every log tells of progress. */
function bar(stage, next) {
  const isOver = end !== "";
  const isDone = stage.done >= 100 || Boolean(next) || ["complete", "shared"].includes(end);
  const each = isDone ? { ...stage, done: 100, last: stage.done >= 100 ? stage.last : (next?.begin ?? stage.last) } : stage;
  const spent = (isDone || isOver ? each.last : Date.now() / 1000) - each.begin;
  const left = !isDone && !isOver && each.done > 2 ? (spent * (100 - each.done)) / each.done : null;
  const state = isDone ? `done in ${seconds(spent)}` : isOver ? `ended at ${each.done} %` : `${each.done} %${left === null ? "" : `, about ${seconds(left)} left`}`;
  const shown = element("progress", { max: "100", value: String(each.done), "aria-label": `${each.name}: ${state}` });
  return element("li", {}, element("span", { text: each.name }), shown,
    element("span", { text: `${state}${tasks(each, isDone)}`, className: "soft" }));
}

function tasks(stage, isDone) {
  if (!stage.tasks) return "";
  const some = stage.count === undefined || isDone ? "" : `${stage.count} of `;
  return `; ${some}${counted(stage.tasks, "task")}${stage.replayed ? `, ${stage.replayed} from the journal` : ""}`;
}
