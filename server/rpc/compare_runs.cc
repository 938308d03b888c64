// CompareRuns: what two runs do not have in common.
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/explain_api.h"

namespace orch::rpc {
namespace {

using nlohmann::json;

constexpr int kStepsRead = 5'000;
constexpr int kUsualSteps = 1'000;
constexpr int kMostSteps = 100'000;

std::string Shown(const json& value) {
  return value.is_null() ? "" : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Objects name by name, to the depth at which people think of fields; the rest as a whole.
void Compare(const std::string& name, const json& before, const json& after, int depth,
             google::protobuf::RepeatedPtrField<v1::ValueChange>* out) {
  if (before == after) return;
  if (depth > 0 && before.is_object() && after.is_object()) {
    std::set<std::string> names;
    for (const auto& [key, value] : before.items()) names.insert(key);
    for (const auto& [key, value] : after.items()) names.insert(key);
    for (const std::string& key : names) {
      Compare(name.empty() ? key : absl::StrCat(name, ".", key), before.contains(key) ? before[key] : json(),
              after.contains(key) ? after[key] : json(), depth - 1, out);
    }
    return;
  }
  v1::ValueChange* change = out->Add();
  change->set_name(name);
  change->set_before(Shown(before));
  change->set_after(Shown(after));
}

std::string JsonOf(const google::protobuf::Message& message) {
  std::string out;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(message, &out, options).ok()) return "{}";
  return out;
}

json Parsed(absl::string_view text) {
  json value = json::parse(text.begin(), text.end(), nullptr, false);
  return value.is_discarded() ? json() : value;
}

// The pipeline with its steps by name, so that an added one does not shift the others.
absl::StatusOr<json> ReadPipeline(Engine& engine, const std::string& digest) {
  ASSIGN_OR_RETURN(const std::string bytes, engine.queries().ReadSpec(digest));
  v1::Pipeline pipeline;
  if (!pipeline.ParseFromString(bytes)) {
    return Error(absl::StatusCode::kDataLoss, "SPEC_CORRUPT", "a stored pipeline cannot be read");
  }
  json steps = json::object();
  for (const v1::StepSpec& step : pipeline.steps()) steps[step.name()] = Parsed(JsonOf(step));
  pipeline.clear_steps();
  json out = Parsed(JsonOf(pipeline));
  if (!out.is_object()) out = json::object();
  out.erase("steps");
  for (auto& [name, step] : steps.items()) step.erase("name");
  out["steps"] = std::move(steps);
  return out;
}

struct Side {
  StepRow row;
  std::map<std::string, std::string> outputs;  // name → digest, in hex
};
using Sides = std::map<std::string, Side>;

absl::StatusOr<Sides> ReadSides(Engine& engine, const FoundRun& run, std::vector<std::string>* order) {
  Sides out;
  const Graph& graph = run.graph();
  for (StepIx ix = 0; ix < graph.step_count(); ++ix) {
    order->push_back(graph.StepName(ix));
    out[order->back()].row.ix = ix;
  }
  const RunKey key = run.record.header.key;
  for (StepIx from = 0;;) {
    ASSIGN_OR_RETURN(std::vector<StepRow> rows, engine.queries().ListSteps(key, {}, from, kStepsRead));
    for (StepRow& row : rows) {
      from = row.ix + 1;
      Side& side = out[row.name];
      side.row = std::move(row);
    }
    if (rows.size() < static_cast<size_t>(kStepsRead)) break;
  }
  store::ArtifactFilter filter;
  filter.project = run.record.header.project;
  filter.run = key;
  for (ArtifactId before = 0;;) {
    ASSIGN_OR_RETURN(const auto artifacts, engine.queries().ListArtifacts(filter, before, kStepsRead));
    for (const store::ArtifactRecord& artifact : artifacts) {  // newest first
      before = artifact.row.id;
      out[graph.StepName(artifact.row.ix)].outputs.emplace(artifact.row.output, Hex(artifact.row.digest));
    }
    if (artifacts.size() < static_cast<size_t>(kStepsRead)) break;
  }
  return out;
}

void SetSide(const Side& side, v1::StepChange::StepSide* out) {
  const StepRow& row = side.row;
  out->set_state(static_cast<v1::Step::State>(row.state));
  out->set_reason(static_cast<v1::Reason::Code>(row.reason));
  if (row.started > 0 && row.ended >= row.started) *out->mutable_duration() = ToDuration(row.ended - row.started);
  out->set_attempts(static_cast<int32_t>(row.attempt));
  out->set_cached_from(row.cached_from);
  if (row.exit_code) out->set_exit_code(*row.exit_code);
}

bool SameSides(const Side& a, const Side& b) {
  return a.row.state == b.row.state && a.row.attempt == b.row.attempt && a.row.reason == b.row.reason &&
         a.row.cached_from == b.row.cached_from && a.row.exit_code == b.row.exit_code && a.outputs == b.outputs;
}

void SetChange(const std::string& name, const Side* before, const Side* after, v1::StepChange* out) {
  static const std::map<std::string, std::string> kNone;
  out->set_name(name);
  if (before != nullptr) SetSide(*before, out->mutable_before());
  if (after != nullptr) SetSide(*after, out->mutable_after());
  const auto& old = before != nullptr ? before->outputs : kNone;
  const auto& now = after != nullptr ? after->outputs : kNone;
  std::set<std::string> names;
  for (const auto& [output, digest] : old) names.insert(output);
  for (const auto& [output, digest] : now) names.insert(output);
  for (const std::string& output : names) {
    const auto a = old.find(output);
    const auto b = now.find(output);
    if (a != old.end() && b != now.end() && a->second == b->second) continue;
    v1::ValueChange* change = out->add_outputs();
    change->set_name(output);
    if (a != old.end()) change->set_before(absl::StrCat("sha256:", a->second));
    if (b != now.end()) change->set_after(absl::StrCat("sha256:", b->second));
  }
}

}  // namespace

absl::Status ExplainApi::CompareRuns(const CallContext& context, const v1::CompareRunsRequest& request,
                                     v1::RunDiff* out) {
  Checks checks;
  checks.Range("request.max_steps", int64_t{request.max_steps()}, 0, kMostSteps);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was compared"));
  const int most = request.max_steps() == 0 ? kUsualSteps : request.max_steps();
  ASSIGN_OR_RETURN(const FoundRun a, FindRunWithGraph(api_, context, request.project(), request.before()));
  ASSIGN_OR_RETURN(const FoundRun b, FindRunWithGraph(api_, context, request.project(), request.after()));
  *out->mutable_before() = ToRun(a.record, api_.facts->pages());
  *out->mutable_after() = ToRun(b.record, api_.facts->pages());
  Compare("", Parsed(a.record.header.parameters_json), Parsed(b.record.header.parameters_json), 1,
          out->mutable_parameters());
  ASSIGN_OR_RETURN(const auto pipeline_a, api_.engine->LoadPipeline(a.record.header.pipeline_id));
  ASSIGN_OR_RETURN(const auto pipeline_b, api_.engine->LoadPipeline(b.record.header.pipeline_id));
  if (pipeline_a->row.digest != pipeline_b->row.digest) {
    ASSIGN_OR_RETURN(const json before, ReadPipeline(*api_.engine, pipeline_a->row.digest));
    ASSIGN_OR_RETURN(const json after, ReadPipeline(*api_.engine, pipeline_b->row.digest));
    Compare("", before, after, 3, out->mutable_pipeline());  // `steps.train.command`
  }
  std::vector<std::string> order_a, order_b;
  ASSIGN_OR_RETURN(const Sides before, ReadSides(*api_.engine, a, &order_a));
  ASSIGN_OR_RETURN(const Sides after, ReadSides(*api_.engine, b, &order_b));
  const auto add = [&](const std::string& name, const Side* x, const Side* y) {
    if (x != nullptr && y != nullptr && SameSides(*x, *y)) {
      out->set_same_steps(out->same_steps() + 1);
    } else if (out->steps_size() >= most) {
      out->set_more_steps(true);
    } else {
      SetChange(name, x, y, out->add_steps());
    }
  };
  for (const std::string& name : order_b) {
    const auto old = before.find(name);
    add(name, old == before.end() ? nullptr : &old->second, &after.at(name));
  }
  for (const std::string& name : order_a) {
    if (after.count(name) == 0) add(name, &before.at(name), nullptr);
  }
  return absl::OkStatus();
}

}  // namespace orch::rpc
