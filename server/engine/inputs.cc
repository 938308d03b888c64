#include "server/engine/inputs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/digest.h"
#include "server/base/json.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr size_t kKnownArtifacts = 65'536;
constexpr size_t kKnownFiles = 65'536;
constexpr char kFile[] = "file://";

absl::Status Missing(absl::string_view message) {
  return Error(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING", message);
}

// What the daemon cannot make in its own folder: nothing is missing.
absl::Status Unmade(absl::string_view what, const std::string& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  return Error(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
               full ? "DISK_FULL" : "STORE_FAILED", absl::StrCat("cannot ", what, " `", path, "`: ", strerror(error)));
}

}  // namespace

std::string FanInEntry(absl::string_view item_json, absl::string_view digest) {
  return absl::StrCat(item_json, "\n", Hex(digest), "\n");
}

absl::StatusOr<std::string> FileDigests::Of(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return Missing(absl::StrCat("`", path, "`: ", strerror(errno)));
  if (S_ISDIR(st.st_mode)) {
    ASSIGN_OR_RETURN(ContentDigest content, DigestOfFolder(path));
    return std::move(content.digest);
  }
  if (!S_ISREG(st.st_mode)) return Missing(absl::StrCat("`", path, "` is neither a file nor a folder"));
  const std::string stamp = absl::StrCat(st.st_dev, ":", st.st_ino, ":", st.st_size, ":", st.st_mtim.tv_sec, ".",
                                         st.st_mtim.tv_nsec, ":", st.st_ctim.tv_sec, ".", st.st_ctim.tv_nsec);
  {
    MutexLock lock(&mutex_);
    const auto found = known_.find(stamp);
    if (found != known_.end()) return found->second;
  }
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  ASSIGN_OR_RETURN(ContentDigest content, DigestOfFile(error ? path : real));
  MutexLock lock(&mutex_);
  if (known_.size() >= kKnownFiles) known_.clear();
  known_[stamp] = content.digest;
  return std::move(content.digest);
}

Inputs::Inputs(std::string data_dir, store::Queries* queries, BlobStore* blobs, FileDigests* files)
    : dir_(data_dir + "/inputs"), data_dir_(std::move(data_dir)), queries_(queries), blobs_(blobs), files_(files) {
  std::error_code error;
  std::filesystem::create_directories(dir_, error);
}

void Inputs::Note(const std::vector<ArtifactRow>& artifacts) {
  MutexLock lock(&mutex_);
  for (const ArtifactRow& row : artifacts) {
    if (row.value_json.has_value() && row.value_json->size() > 4096) continue;
    if (known_.emplace(row.id, row).second) order_.push_back(row.id);
  }
  while (order_.size() > kKnownArtifacts) {
    known_.erase(order_.front());
    order_.pop_front();
  }
}

absl::StatusOr<std::vector<ArtifactRow>> Inputs::Find(const std::vector<ArtifactId>& ids) {
  std::vector<ArtifactRow> out(ids.size());
  std::vector<ArtifactId> unknown;
  std::vector<size_t> places;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto found = known_.find(ids[i]);
      if (found != known_.end()) {
        out[i] = found->second;
      } else {
        unknown.push_back(ids[i]);
        places.push_back(i);
      }
    }
  }
  if (unknown.empty()) return out;
  ASSIGN_OR_RETURN(std::vector<ArtifactRow> rows, queries_->GetArtifacts(unknown));
  for (size_t i = 0; i < rows.size(); ++i) out[places[i]] = std::move(rows[i]);
  return out;
}

absl::StatusOr<ReadyInput> Inputs::One(const ArtifactRow& artifact, bool value, bool paths) {
  ReadyInput input;
  input.present = true;
  input.digest = artifact.digest;
  if (value) {
    input.value_json = artifact.value_json.value_or("null");
    if (paths) {
      ASSIGN_OR_RETURN(input.path, blobs_->Materialize(input.value_json));
    }
  } else if (paths) {
    ASSIGN_OR_RETURN(input.path, blobs_->PathOf(artifact.digest));
  }
  return input;
}

absl::StatusOr<ReadyInput> Inputs::FanInValues(const std::vector<ArtifactId>& ids, bool paths) {
  std::vector<ArtifactId> landed;
  for (const ArtifactId id : ids) {
    if (id != 0) landed.push_back(id);
  }
  ASSIGN_OR_RETURN(const std::vector<ArtifactRow> rows, Find(landed));
  ReadyInput input;
  input.present = true;
  input.value_json = "[";
  for (const ArtifactRow& row : rows) {
    absl::StrAppend(&input.value_json, input.value_json.size() > 1 ? "," : "", row.value_json.value_or("null"));
  }
  input.value_json += "]";
  input.digest = Sha256Of(input.value_json);
  if (paths) {
    ASSIGN_OR_RETURN(input.path, blobs_->Materialize(input.value_json));
  }
  return input;
}

absl::StatusOr<ReadyInput> Inputs::FanInFolder(const RunContext& run, const InputBinding& binding,
                                               const std::string& dir, const std::vector<ArtifactId>& ids, bool paths) {
  std::vector<ArtifactId> landed;
  std::vector<uint32_t> instances;
  for (uint32_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == 0) continue;
    landed.push_back(ids[i]);
    instances.push_back(i);
  }
  ASSIGN_OR_RETURN(const std::vector<ArtifactRow> rows, Find(landed));
  if (paths) {
    std::error_code error;
    std::filesystem::remove_all(dir, error);
    std::filesystem::create_directories(dir, error);
    if (error) return Unmade("make", dir, error.value());
  }
  const StepTemplate& producer = run.graph->templates()[binding.producer];
  Sha256 hash;
  std::string index = "[";
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string name = absl::StrFormat("%06d", instances[i]);
    const std::string item = run.graph->ItemJson(producer.at(instances[i]));
    hash.Update(FanInEntry(item, rows[i].digest));
    if (!paths) continue;
    ASSIGN_OR_RETURN(const std::string path, blobs_->PathOf(rows[i].digest));
    if (symlink(path.c_str(), absl::StrCat(dir, "/", name).c_str()) != 0) {
      return Unmade("make a link to", path, errno);
    }
    absl::StrAppend(&index, i > 0 ? ",\n " : "\n ", "{\"item\": ", item, ", \"path\": ", JsonQuote(name),
                    ", \"digest\": \"sha256:", Hex(rows[i].digest), "\"}");
  }
  ReadyInput input;
  input.present = true;
  input.path = dir;
  input.digest = hash.Finish();
  if (paths) {
    errno = 0;
    std::ofstream out(dir + "/index.json", std::ios::binary);
    out << index << "\n]\n";
    out.close();
    if (!out) return Unmade("write", dir + "/index.json", errno != 0 ? errno : EIO);
  }
  return input;
}

absl::StatusOr<ReadyInput> Inputs::External(const InputSpec& input) {
  std::error_code error;
  const std::string path = input.ref.substr(sizeof(kFile) - 1);
  const std::string real = std::filesystem::weakly_canonical(path, error).string();
  if (real == data_dir_ || absl::StartsWith(real, data_dir_ + "/")) {
    return Missing(absl::StrCat("`", input.ref, "` is inside the data directory; use a step's output instead"));
  }
  ReadyInput ready;
  ASSIGN_OR_RETURN(ready.digest, files_->Of(path));
  ready.present = true;
  ready.path = path;
  return ready;
}

absl::StatusOr<std::vector<ReadyInput>> Inputs::Make(const RunContext& run, StepIx ix, const std::string& key,
                                                     const std::vector<std::vector<ArtifactId>>& ids, bool paths) {
  const StepTemplate& step = run.graph->templates()[run.graph->TemplateOf(ix)];
  const StepSpec& spec = run.graph->SpecOf(ix);
  std::vector<ReadyInput> out(step.inputs.size());
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const InputBinding& binding = step.inputs[i];
    if (binding.source == InputSpec::Source::kArtifact) {
      if (ids[i].empty() || ids[i][0] == 0) {
        return Missing(absl::StrCat("artifact `", spec.inputs[i].ref, "` is not there"));
      }
      if (paths) RETURN_IF_ERROR(Pin(key, ids[i]));  // before the look: what is there then stays
      ASSIGN_OR_RETURN(const std::vector<ArtifactRow> rows, Find(ids[i]));
      ASSIGN_OR_RETURN(out[i], One(rows[0], rows[0].value_json.has_value(), paths));
    } else if (binding.source == InputSpec::Source::kUri) {
      ASSIGN_OR_RETURN(out[i], External(spec.inputs[i]));
    } else if (binding.fan_in && binding.value) {
      ASSIGN_OR_RETURN(out[i], FanInValues(ids[i], paths));
    } else if (binding.fan_in) {
      const std::string parent = absl::StrCat(dir_, "/", key);
      if (paths) {
        MutexLock lock(&mutex_);
        made_[key] = true;
      }
      ASSIGN_OR_RETURN(out[i],
                       FanInFolder(run, binding, absl::StrCat(parent, "/", spec.inputs[i].name), ids[i], paths));
    } else if (!ids[i].empty() && ids[i][0] != 0) {
      ASSIGN_OR_RETURN(const std::vector<ArtifactRow> rows, Find(ids[i]));
      ASSIGN_OR_RETURN(out[i], One(rows[0], binding.value, paths));
    }  // else: absent, which rules other than all_success allow
  }
  return out;
}

absl::StatusOr<std::vector<std::string>> Inputs::Values(const std::vector<ArtifactId>& ids) {
  std::vector<ArtifactId> landed;
  for (const ArtifactId id : ids) {
    if (id != 0) landed.push_back(id);
  }
  ASSIGN_OR_RETURN(std::vector<ArtifactRow> rows, Find(landed));
  std::vector<std::string> out(ids.size());
  size_t next = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != 0) out[i] = rows[next++].value_json.value_or("null");
  }
  return out;
}

absl::Status Inputs::Pin(const std::string& key, const std::vector<ArtifactId>& ids) {
  std::vector<ArtifactId> landed;
  std::copy_if(ids.begin(), ids.end(), std::back_inserter(landed), [](ArtifactId id) { return id != 0; });
  if (landed.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<ArtifactRow> rows, Find(landed));
  std::vector<std::shared_ptr<const void>> holds;
  holds.reserve(rows.size());
  for (const ArtifactRow& row : rows) holds.push_back(blobs_->Hold(row.digest));
  KeepPins(key, std::move(holds));
  return absl::OkStatus();
}

absl::Status Inputs::PinAgain(const AttemptRow& attempt) {
  const bool any = std::any_of(attempt.external.begin(), attempt.external.end(), [](ArtifactId id) { return id != 0; });
  if (!any) return absl::OkStatus();
  std::vector<std::shared_ptr<const void>> holds;
  for (const ArtifactId id : attempt.external) {
    if (id == 0) continue;
    const auto rows = Find({id});
    if (rows.ok()) holds.push_back(blobs_->Hold(rows->front().digest));  // else it is gone, and what it was is noted
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> gone,
                   queries_->ListGoneReads(attempt.run, attempt.ix, attempt.number));
  for (const std::string& digest : gone) holds.push_back(blobs_->Hold(digest));
  KeepPins(attempt.key, std::move(holds));
  return absl::OkStatus();
}

void Inputs::KeepPins(const std::string& key, std::vector<std::shared_ptr<const void>> holds) {
  MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<const void>>& pins = pins_[key];
  pins.insert(pins.end(), std::make_move_iterator(holds.begin()), std::make_move_iterator(holds.end()));
}

void Inputs::Remove(const std::string& key) {
  std::vector<std::shared_ptr<const void>> pins;  // let go of without the lock
  bool made = false;
  {
    MutexLock lock(&mutex_);
    if (const auto found = pins_.find(key); found != pins_.end()) {
      pins = std::move(found->second);
      pins_.erase(found);
    }
    made = made_.erase(key) > 0;
  }
  if (!made) return;
  std::error_code error;
  std::filesystem::remove_all(absl::StrCat(dir_, "/", key), error);
}

}  // namespace orch
