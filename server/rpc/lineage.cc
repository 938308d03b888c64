#include "server/rpc/lineage.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/convert_rows.h"

namespace orch::rpc {
namespace {

using Direction = v1::GetLineageRequest::Direction;

// Who reads: an attempt, or (attempt 0) a step whose outputs came from the cache.
struct Reader {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
  auto operator<=>(const Reader&) const = default;
};

class Walk {
 public:
  Walk(const ApiContext& api, const LineageQuery& query) : api_(api), query_(query) {}

  absl::Status Up(const LineageStart& start) {
    std::vector<Reader> readers;
    if (start.artifact != 0) {
      ASSIGN_OR_RETURN(const ArtifactRow made, Find(start.artifact));
      readers.push_back({made.run, made.ix, made.attempt});
      cached_upto_[readers.back()] = made.id;
    } else {
      readers.push_back({start.run, start.ix, start.attempt});
    }
    std::set<Reader> seen(readers.begin(), readers.end());
    for (int distance = 1; distance <= query_.depth && !readers.empty() && !Full(); ++distance) {
      std::vector<Reader> next;
      for (const Reader& reader : readers) {
        ASSIGN_OR_RETURN(const std::vector<Read> reads, InputsOf(reader));
        for (const Read& read : reads) {
          RETURN_IF_ERROR(Add(v1::GetLineageRequest::UPSTREAM, distance, reader, read));
          if (Full()) return absl::OkStatus();
          if (read.artifact.id == 0) continue;
          const Reader maker{read.artifact.run, read.artifact.ix, read.artifact.attempt};
          if (maker.attempt == 0) cached_upto_[maker] = std::max(cached_upto_[maker], read.artifact.id);
          if (seen.insert(maker).second) next.push_back(maker);
        }
      }
      readers = std::move(next);
    }
    return absl::OkStatus();
  }

  absl::Status Down(const LineageStart& start) {
    std::vector<ArtifactRow> artifacts;
    if (start.artifact != 0) {
      ASSIGN_OR_RETURN(ArtifactRow row, Find(start.artifact));
      artifacts.push_back(std::move(row));
    } else {
      ASSIGN_OR_RETURN(artifacts, MadeBy({start.run, start.ix, start.attempt}));
    }
    std::set<ArtifactId> seen;
    for (const ArtifactRow& row : artifacts) seen.insert(row.id);
    for (int distance = 1; distance <= query_.depth && !artifacts.empty() && !Full(); ++distance) {
      std::vector<ArtifactRow> next;
      for (const ArtifactRow& artifact : artifacts) {
        ASSIGN_OR_RETURN(const Readers readers, ReadersOf(artifact));
        for (const auto& [reader, input] : readers) {
          RETURN_IF_ERROR(Add(v1::GetLineageRequest::DOWNSTREAM, distance, reader, {input, artifact}));
          if (Full()) return absl::OkStatus();
          ASSIGN_OR_RETURN(std::vector<ArtifactRow> made, MadeBy(reader));
          for (ArtifactRow& row : made) {
            if (seen.insert(row.id).second) next.push_back(std::move(row));
          }
        }
      }
      artifacts = std::move(next);
    }
    return absl::OkStatus();
  }

  LineagePage Take() {
    page_.more = count_ > query_.skip + query_.limit;
    page_.truncated = count_ >= kMaxLineageLinks;
    return std::move(page_);
  }

 private:
  struct Read {
    std::string input;
    ArtifactRow artifact;
    std::string uri;  // set: it is no artifact
  };
  using Readers = std::vector<std::pair<Reader, std::string>>;  // and as which input
  // How far artifacts had come: the newest one, and for attempts that do not say so the time.
  struct Upto {
    ArtifactId id = 0;
    int64_t time = INT64_MAX;
    std::vector<ArtifactId> external;  // what it read from outside its run, by input
    auto operator<=>(const Upto&) const = default;
  };
  Upto UptoOf(const store::AttemptMark& mark) const {
    if (mark.inputs_upto == 0) return {query_.upto, mark.created, {}};
    return {std::min(mark.inputs_upto, query_.upto), INT64_MAX, mark.external};
  }

  // One link more than the page tells that there are more.
  bool Full() const { return count_ > query_.skip + query_.limit || count_ >= kMaxLineageLinks; }

  absl::StatusOr<ArtifactRow> Find(ArtifactId id) {
    ASSIGN_OR_RETURN(std::vector<ArtifactRow> rows, api_.engine->queries().GetArtifacts({id}));
    return std::move(rows[0]);
  }

  // Null: the run is gone, and with it what it knew.
  absl::StatusOr<std::shared_ptr<const RunNames::Entry>> RunOf(RunKey key) {
    auto run = api_.names->Get(key, INT64_MAX);
    if (run.status().code() == absl::StatusCode::kNotFound) return std::shared_ptr<const RunNames::Entry>();
    return run;
  }

  // Up to where this reader read; nullopt: nothing of it is on record.
  absl::StatusOr<std::optional<Upto>> ReadUpTo(const Reader& reader) {
    if (reader.attempt == 0) {
      const ArtifactId upto = cached_upto_[reader];
      return upto == 0 ? std::nullopt : std::optional<Upto>({upto, INT64_MAX, {}});
    }
    ASSIGN_OR_RETURN(const std::vector<store::AttemptMark> marks,
                     api_.engine->queries().ListAttemptMarks(reader.run, reader.ix, reader.ix, 10'000));
    for (const store::AttemptMark& mark : marks) {
      if (mark.number == reader.attempt) return std::optional<Upto>(UptoOf(mark));
    }
    return std::optional<Upto>();
  }

  // Of each producer the newest up to `upto` that counts for this input.
  absl::StatusOr<std::vector<ArtifactRow>> Landed(RunKey run, StepIx first, StepIx last, const std::string& output,
                                                  bool early, const Upto& upto) {
    ASSIGN_OR_RETURN(const std::vector<ArtifactRow> rows, api_.engine->queries().ListOutputVersions(
                                                              run, first, last, output, upto.id, kMaxLineageLinks + 1));
    std::vector<ArtifactRow> out;
    for (const ArtifactRow& row : rows) {  // by step, oldest first
      if (row.created > upto.time) continue;
      if (!early && row.early) {
        // What was published early counts for others only if its attempt has succeeded.
        ASSIGN_OR_RETURN(const bool good, HasSucceeded({run, row.ix, row.attempt}));
        if (!good) continue;
      }
      if (!out.empty() && out.back().ix == row.ix) {
        out.back() = row;
      } else {
        out.push_back(row);
      }
    }
    return out;
  }

  absl::StatusOr<bool> HasSucceeded(const Reader& attempt) {
    ASSIGN_OR_RETURN(const auto marks,
                     api_.engine->queries().ListAttemptMarks(attempt.run, attempt.ix, attempt.ix, 10'000));
    return std::any_of(marks.begin(), marks.end(), [&](const store::AttemptMark& m) {
      return m.number == attempt.attempt && m.state == AttemptState::kSucceeded;
    });
  }

  absl::StatusOr<std::vector<Read>> InputsOf(const Reader& reader) {
    std::vector<Read> out;
    ASSIGN_OR_RETURN(const auto run, RunOf(reader.run));
    if (run == nullptr) return out;
    const Graph& graph = *run->graph;
    if (reader.ix >= graph.step_count()) return out;
    ASSIGN_OR_RETURN(const std::optional<Upto> known, ReadUpTo(reader));
    if (!known.has_value()) return out;
    const Upto& upto = *known;
    const uint32_t t = graph.TemplateOf(reader.ix);
    const StepTemplate& step = graph.templates()[t];
    if (!step.Has(reader.ix) || step.group == reader.ix) return out;
    const uint32_t instance = step.InstanceOf(reader.ix);
    const StepSpec& spec = graph.spec().steps[t];
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const InputBinding& input = step.inputs[i];
      if (input.source == InputSpec::Source::kUri) out.push_back({spec.inputs[i].name, {}, spec.inputs[i].ref});
      if (input.source == InputSpec::Source::kArtifact && i < upto.external.size() && upto.external[i] != 0) {
        auto row = Find(upto.external[i]);
        if (row.status().code() == absl::StatusCode::kNotFound) {  // it has been deleted
          out.push_back({spec.inputs[i].name, {}, ""});
          continue;
        }
        RETURN_IF_ERROR(row.status());
        out.push_back({spec.inputs[i].name, *std::move(row), ""});
      }
      if (input.source != InputSpec::Source::kFrom) continue;
      const StepTemplate& producer = graph.templates()[input.producer];
      if (producer.count == 0) continue;
      uint32_t from = 0;
      uint32_t to = producer.count;
      if (input.kind == EdgeKind::kItem) from = input.item_producer[instance];
      if (input.kind == EdgeKind::kIndex) from = input.index;
      if (input.kind != EdgeKind::kAll) to = from + 1;
      const std::string& output = graph.spec().steps[input.producer].outputs[input.output].name;
      absl::Status read;
      producer.ForEachRange(from, to, [&](StepRange range) {
        if (!read.ok()) return;
        auto rows = Landed(reader.run, range.first, range.first + range.count - 1, output, input.early, upto);
        if (read.Update(rows.status()); !read.ok()) return;
        for (ArtifactRow& row : *rows) out.push_back({spec.inputs[i].name, std::move(row), ""});
      });
      RETURN_IF_ERROR(read);
    }
    return out;
  }

  absl::StatusOr<Readers> ReadersOf(const ArtifactRow& artifact) {
    Readers out;
    RETURN_IF_ERROR(AddOtherRuns(artifact, &out));
    ASSIGN_OR_RETURN(const auto run, RunOf(artifact.run));
    if (run == nullptr) return out;
    const Graph& graph = *run->graph;
    if (artifact.ix >= graph.step_count()) return out;
    const uint32_t maker = graph.TemplateOf(artifact.ix);
    const uint32_t instance = graph.InstanceOf(artifact.ix);
    for (uint32_t t = 0; t < graph.templates().size(); ++t) {
      const StepTemplate& step = graph.templates()[t];
      for (size_t i = 0; i < step.inputs.size(); ++i) {
        const InputBinding& input = step.inputs[i];
        if (input.source != InputSpec::Source::kFrom || input.producer != maker) continue;
        if (graph.spec().steps[maker].outputs[input.output].name != artifact.output) continue;
        if (input.kind == EdgeKind::kIndex && input.index != instance) continue;
        RETURN_IF_ERROR(AddReaders(artifact, graph.spec().steps[t].inputs[i].name, step, input, instance, &out));
      }
    }
    return out;
  }

  // The attempts of other runs that read it, each as the inputs that it did.
  absl::Status AddOtherRuns(const ArtifactRow& artifact, Readers* out) {
    ASSIGN_OR_RETURN(const auto readers,
                     api_.engine->queries().ListExternalReaders(artifact.id, static_cast<int>(kMaxLineageLinks) + 1));
    for (const store::ExternalReader& reader : readers) {
      ASSIGN_OR_RETURN(const auto run, RunOf(reader.run));
      if (run == nullptr || reader.ix >= run->graph->step_count()) continue;
      const std::vector<InputSpec>& inputs = run->graph->SpecOf(reader.ix).inputs;
      for (size_t i = 0; i < std::min(inputs.size(), reader.external.size()); ++i) {
        if (reader.external[i] == artifact.id) out->push_back({{reader.run, reader.ix, reader.number}, inputs[i].name});
      }
    }
    return absl::OkStatus();
  }

  // The attempts of the step's instances that read this version and no other.
  absl::Status AddReaders(const ArtifactRow& artifact, const std::string& name, const StepTemplate& step,
                          const InputBinding& input, uint32_t instance, Readers* out) {
    absl::Status read;
    std::vector<store::AttemptMark> marks;
    step.ForEachRange([&](StepRange range) {
      if (!read.ok()) return;
      auto more = api_.engine->queries().ListAttemptMarks(artifact.run, range.first, range.first + range.count - 1,
                                                          static_cast<int>(kMaxLineageLinks) + 1);
      if (read.Update(more.status()); !read.ok()) return;
      marks.insert(marks.end(), more->begin(), more->end());
    });
    RETURN_IF_ERROR(read);
    std::map<Upto, ArtifactId> read_at;  // by how far artifacts had come; many readers have the same
    for (const store::AttemptMark& mark : marks) {
      if (input.kind == EdgeKind::kItem && input.kind == EdgeKind::kItem &&
          input.item_producer[step.InstanceOf(mark.ix)] != instance)
        continue;
      const Upto upto = UptoOf(mark);
      if (upto.id < artifact.id) continue;
      auto newest = read_at.find(upto);
      if (newest == read_at.end()) {
        ASSIGN_OR_RETURN(const auto rows,
                         Landed(artifact.run, artifact.ix, artifact.ix, artifact.output, input.early, upto));
        newest = read_at.emplace(upto, rows.empty() ? 0 : rows[0].id).first;
      }
      if (newest->second == artifact.id) out->push_back({{artifact.run, mark.ix, mark.number}, name});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<ArtifactRow>> MadeBy(const Reader& reader) {
    ASSIGN_OR_RETURN(std::vector<ArtifactRow> rows, api_.engine->queries().ListOutputVersions(
                                                        reader.run, reader.ix, reader.ix, "", query_.upto, 1000));
    rows.erase(
        std::remove_if(rows.begin(), rows.end(), [&](const ArtifactRow& row) { return row.attempt != reader.attempt; }),
        rows.end());
    return rows;
  }

  absl::Status Add(Direction direction, int distance, const Reader& reader, const Read& read) {
    const int64_t number = count_++;
    if (number < query_.skip || number >= query_.skip + query_.limit) return absl::OkStatus();
    v1::GetLineageResponse::Link& link = page_.links.emplace_back();
    link.set_direction(direction);
    link.set_distance(distance);
    link.set_input(read.input);
    link.set_attempt(static_cast<int32_t>(reader.attempt));
    ASSIGN_OR_RETURN(const auto run, RunOf(reader.run));
    if (run != nullptr) {
      link.set_run(run->header.name);
      link.set_run_id(run->header.id);
      if (reader.ix < run->graph->step_count()) link.set_step(run->graph->StepName(reader.ix));
    }
    link.set_uri(read.uri);
    if (read.artifact.id != 0) {
      auto record = api_.engine->queries().FindArtifact(read.artifact.project, ArtifactName(read.artifact.id));
      if (record.ok()) {
        record->row.value_json.reset();
        *link.mutable_artifact() = ToArtifact(*record);
      } else if (record.status().code() != absl::StatusCode::kNotFound) {
        return record.status();
      }
    }
    ASSIGN_OR_RETURN(const std::vector<ArtifactRow> made, MadeBy(reader));
    for (const ArtifactRow& row : made) (*link.mutable_outputs())[row.output] = ArtifactName(row.id);
    return absl::OkStatus();
  }

  const ApiContext& api_;
  const LineageQuery& query_;
  LineagePage page_;
  int64_t count_ = 0;  // links found so far
  std::map<Reader, ArtifactId> cached_upto_;
};

}  // namespace

absl::StatusOr<LineagePage> WalkLineage(const ApiContext& api, const LineageStart& start, const LineageQuery& query) {
  Walk walk(api, query);
  if (query.upstream) RETURN_IF_ERROR(walk.Up(start));
  if (query.downstream) RETURN_IF_ERROR(walk.Down(start));
  return walk.Take();
}

}  // namespace orch::rpc
