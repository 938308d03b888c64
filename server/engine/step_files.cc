#include "server/engine/step_files.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"
#include "server/base/status.h"
#include "server/engine/sources.h"

namespace orch {
namespace {

namespace fs = std::filesystem;
using Found = StepFiles::Found;

constexpr char kIndex[] = "index.json";
constexpr int64_t kLeaveSeconds = 7 * 24 * 3600;  // what the signature can say at most

absl::Status NotThere(absl::string_view reason, absl::string_view what) {
  return Error(absl::StatusCode::kNotFound, reason, what);
}

// A file inside of a folder, after all links; nullopt if it leads out, or is none.
std::optional<std::string> FileInside(const std::string& root, const std::string& relative) {
  if (!IsPlainPath(relative)) return std::nullopt;
  std::error_code error;
  const std::string real_root = fs::canonical(root, error).string();
  if (error) return std::nullopt;
  const std::string real = fs::canonical(absl::StrCat(root, "/", relative), error).string();
  if (error || !absl::StartsWith(real, real_root + "/") || !fs::is_regular_file(real, error)) return std::nullopt;
  return real;
}

absl::StatusOr<Found> Listed(const std::string& folder) {
  Found found;
  found.what = Found::What::kListing;
  ASSIGN_OR_RETURN(found.text, ListFolder(folder, nullptr));
  found.digest = Sha256Of(found.text);
  return found;
}

}  // namespace

StepFiles::StepFiles(const Sources* sources, Deliveries* deliveries, BlobStore* blobs, StepFileLimits limits,
                     ReadSecrets secrets, ArtifactStores* stores)
    : sources_(sources),
      deliveries_(deliveries),
      blobs_(blobs),
      limits_(limits),
      secrets_(std::move(secrets)),
      stores_(stores) {}

absl::StatusOr<AttemptTask> StepFiles::TaskOf(const std::string& key) {
  ASSIGN_OR_RETURN(const std::string text, deliveries_->TaskOf(key));
  return ReadTask(text);
}

absl::StatusOr<std::string> StepFiles::Begin(const std::string& key, absl::string_view launcher) {
  ASSIGN_OR_RETURN(const std::string kept, deliveries_->Begin(key, launcher));
  ASSIGN_OR_RETURN(AttemptTask task, ReadTask(kept));
  ASSIGN_OR_RETURN(const std::vector<SecretValue> secrets, secrets_(key));
  nlohmann::json list = nlohmann::json::array();
  for (const SecretValue& secret : secrets) {
    list.push_back(
        {{"variable", secret.variable}, {"file", secret.file}, {"value_base64", absl::Base64Escape(secret.value)}});
  }
  task.json.pop_back();  // its closing brace
  absl::StrAppend(&task.json, ",\"patience_seconds\":", limits_.patience_seconds);
  if (!secrets.empty()) absl::StrAppend(&task.json, ",\"secrets\":", list.dump());
  if (const std::string away = PlacesToLeave(key, task); !away.empty()) {
    absl::StrAppend(&task.json, ",\"away\":", away);
  }
  task.json += "}";
  return std::move(task.json);
}

// Where its launcher may leave what the step made if the daemon does not answer then; empty: in its work folder alone.
std::string StepFiles::PlacesToLeave(const std::string& key, const AttemptTask& task) {
  if (task.artifact_store.empty()) return {};
  const auto place = [&](const std::string& name) -> nlohmann::json {
    const auto address = stores_->LeaveAddress(task.artifact_store, key, name, kLeaveSeconds);
    if (!address.ok()) return nullptr;
    nlohmann::json headers = nlohmann::json::object();
    for (const auto& [header, value] : address->headers) headers[header] = value;
    return {{"url", address->url}, {"headers", headers}};
  };
  nlohmann::json outputs = nlohmann::json::object();
  for (const std::string& output : task.outputs) {
    outputs[output] = place("outputs/" + output);
    if (outputs[output].is_null()) return {};
  }
  const nlohmann::json manifest = place("manifest.json");
  if (manifest.is_null()) return {};
  return nlohmann::json{{"manifest", manifest}, {"outputs", outputs}, {"most_bytes", kMaxSinglePut}}.dump();
}

namespace {

absl::Status Unreachable(absl::string_view what) {
  return Error(absl::StatusCode::kFailedPrecondition, "STORE_UNREACHABLE", what);
}

absl::StatusOr<std::string> BytesOf(const Found& found) {
  if (found.path.empty()) return found.text;
  std::ifstream in(found.path, std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) return Unreachable(absl::StrCat(found.path, " cannot be read"));
  return bytes;
}

}  // namespace

absl::Status StepFiles::CountInlined(int64_t size, int64_t* inlined) {
  if (size > limits_.handed_bytes || *inlined > limits_.handed_bytes - size) {
    return Unreachable(
        absl::StrCat("what has no address at an artifact store goes with the step's task, and is more than ",
                     limits_.handed_bytes, " bytes (limit handed_bytes)"));
  }
  *inlined += size;
  return absl::OkStatus();
}

absl::Status StepFiles::Describe(const Found& found, int64_t* inlined, nlohmann::json* out) {
  std::error_code error;
  const int64_t size = found.path.empty() ? static_cast<int64_t>(found.text.size())
                                          : static_cast<int64_t>(fs::file_size(found.path, error));
  if (error) return Unreachable(absl::StrCat(found.path, ": ", error.message()));
  if (size > limits_.handed_inline_bytes) {
    std::string url = AddressOf(found, kLeaveSeconds);
    if (!url.empty()) {
      (*out)["url"] = std::move(url);
      return absl::OkStatus();
    }
  }
  RETURN_IF_ERROR(CountInlined(size, inlined));
  ASSIGN_OR_RETURN(const std::string bytes, BytesOf(found));
  (*out)["base64"] = absl::Base64Escape(bytes);
  return absl::OkStatus();
}

absl::Status StepFiles::DescribeInput(const std::string& key, const std::string& name, const std::string& rest,
                                      int64_t* inlined, nlohmann::json* out) {
  ASSIGN_OR_RETURN(const Found found, FindInput(key, name, rest));
  if (found.what == Found::What::kBytes) return Describe(found, inlined, out);
  ASSIGN_OR_RETURN(const std::string text, BytesOf(found));
  const std::string below = rest.empty() ? "" : rest + "/";
  RETURN_IF_ERROR(CountInlined(static_cast<int64_t>(text.size()), inlined));
  if (found.what == Found::What::kListing) {
    (*out)["listing"] = absl::Base64Escape(text);
    nlohmann::json& files = (*out)["files"] = nlohmann::json::object();
    ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, ReadListing(text, limits_.folder_entries));
    for (const FolderEntry& entry : entries) {
      if (entry.kind != FolderEntry::Kind::kFile) continue;
      RETURN_IF_ERROR(DescribeInput(key, name, below + entry.path, inlined, &files[entry.path]));
    }
    return absl::OkStatus();
  }
  (*out)["index"] = absl::Base64Escape(text);
  nlohmann::json& items = (*out)["items"] = nlohmann::json::object();
  const auto index = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_array()) return Unreachable("the index of a fan-in cannot be read");
  for (const auto& item : index) {
    const std::string path = item.value("path", "");
    RETURN_IF_ERROR(DescribeInput(key, name, below + path, inlined, &items[path]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> StepFiles::Hand(const std::string& key) {
  ASSIGN_OR_RETURN(const AttemptTask task, TaskOf(key));
  const std::string away = PlacesToLeave(key, task);
  if (away.empty()) {
    return Unreachable(
        "the run's artifact store has no addresses, and its steps reach nothing else; use a stack with S3");
  }
  std::string launcher = deliveries_->LauncherOf(key);  // an earlier life of the daemon may have handed it over
  if (launcher.empty()) {
    launcher = Hex(RandomBytes(16));
    RETURN_IF_ERROR(deliveries_->Begin(key, launcher).status());
  }
  nlohmann::json out = nlohmann::json::parse(task.json);
  out["launcher"] = launcher;
  out["away"] = nlohmann::json::parse(away);
  nlohmann::json env = nlohmann::json::array();
  for (const auto& pair : out["env"]) {
    if (pair[0] != "ORCH_TOKEN" && pair[0] != "ORCH_ENDPOINT") env.push_back(pair);
  }
  out["env"] = std::move(env);
  int64_t inlined = 0;
  for (auto& input : out["inputs"]) {
    const std::string name = input["name"];
    const absl::Status described = DescribeInput(key, name, "", &inlined, &input["bytes"]);
    if (!described.ok()) {
      return Unreachable(absl::StrCat("input `", name, "`: ", described.message()));
    }
  }
  if (out.contains("source")) {
    const auto found = FindSource(key, "");
    if (found.ok()) {
      const absl::Status listed = CountInlined(static_cast<int64_t>(found->text.size()), &inlined);
      if (!listed.ok()) return Unreachable(absl::StrCat("source: ", listed.message()));
      nlohmann::json& bytes = out["source"]["bytes"];
      bytes["listing"] = absl::Base64Escape(found->text);
      nlohmann::json& files = bytes["files"] = nlohmann::json::object();
      ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, ReadListing(found->text, limits_.folder_entries));
      for (const FolderEntry& entry : entries) {
        if (entry.kind != FolderEntry::Kind::kFile) continue;
        ASSIGN_OR_RETURN(const Found file, FindSource(key, entry.path));
        const absl::Status described = Describe(file, &inlined, &files[entry.path]);
        if (!described.ok()) return Unreachable(absl::StrCat("source: ", described.message()));
      }
    } else if (ReasonOf(found.status()) != "SOURCE_NOT_FOUND") {
      return found.status();
    } else {
      out.erase("source");
    }
  }
  return deliveries_->PutHanded(key, out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

absl::StatusOr<Found> StepFiles::FindInput(const std::string& key, const std::string& name, const std::string& rest) {
  ASSIGN_OR_RETURN(const AttemptTask task, TaskOf(key));
  const auto input = task.inputs.find(name);
  if (input == task.inputs.end()) {
    return NotThere("INPUT_NOT_FOUND", absl::StrCat("this step has no input `", name, "`"));
  }
  const TaskFile& file = input->second;
  const auto nothing = [&] {
    return NotThere("INPUT_NOT_FOUND", absl::StrCat("input `", name, "` has no `", rest, "`"));
  };
  Found found;
  if (file.kind == TaskFile::Kind::kFile) {
    if (!rest.empty()) return nothing();
    found.path = file.path;
    found.digest = file.digest;
    return found;
  }
  if (file.kind == TaskFile::Kind::kFolder) {
    if (rest.empty()) {
      const auto kept = blobs_->ListingOf(file.digest);
      if (!kept.ok()) return Listed(file.path);  // a folder outside
      found.what = Found::What::kListing;
      found.path = *kept;
      found.digest = file.digest;
      return found;
    }
    const auto inside = FileInside(file.path, rest);
    if (!inside) return nothing();
    found.path = *inside;
    found.folder = file.digest;
    return found;
  }
  // A fan-in: `000003`, or `000003/a/b` of an item that is a folder.
  if (rest.empty()) {
    found.what = Found::What::kIndex;
    found.path = absl::StrCat(file.path, "/", kIndex);
    return found;
  }
  if (!IsPlainPath(rest)) return nothing();
  const size_t slash = rest.find('/');
  const std::string item = absl::StrCat(file.path, "/", rest.substr(0, slash));
  std::error_code error;
  if (!fs::is_symlink(item, error)) return nothing();
  const std::string blob = fs::read_symlink(item, error).string();
  if (error) return nothing();
  if (slash != std::string::npos) {
    const auto inside = FileInside(blob, rest.substr(slash + 1));
    if (!inside) return nothing();
    found.path = *inside;
    found.folder = absl::HexStringToBytes(fs::path(blob).filename().string());
    return found;
  }
  std::string digest = absl::HexStringToBytes(fs::path(blob).filename().string());  // its name in the store
  if (fs::is_directory(blob, error)) {
    found.what = Found::What::kListing;
    ASSIGN_OR_RETURN(found.path, blobs_->ListingOf(digest));
  } else {
    found.path = blob;
  }
  found.digest = std::move(digest);
  return found;
}

absl::StatusOr<Found> StepFiles::FindSource(const std::string& key, const std::string& rest) {
  ASSIGN_OR_RETURN(const AttemptTask task, TaskOf(key));
  if (!task.source || sources_->IsOwn(task.source->path)) {
    return NotThere("SOURCE_NOT_FOUND", "this step has no source folder");
  }
  Found found;
  if (rest.empty()) {
    found.what = Found::What::kListing;
    ASSIGN_OR_RETURN(found.text, sources_->List(task.source->path, task.source->ignore, limits_.source_bytes));
    found.digest = Sha256Of(found.text);
    return found;
  }
  const auto inside = FileInside(task.source->path, rest);
  if (!inside || Sources::LeftOut(task.source->ignore, rest) || sources_->IsOwn(*inside)) {
    return NotThere("SOURCE_NOT_FOUND", absl::StrCat("the source folder has no `", rest, "`"));
  }
  found.path = *inside;
  return found;
}

std::string StepFiles::AddressOf(const Found& found, int64_t seconds) {
  if (found.what == Found::What::kIndex || found.path.empty() || !stores_->Any()) return {};
  std::string file;
  if (!found.folder.empty()) {  // its digest is read off its bytes, which are here
    const auto content = DigestOfFile(found.path);
    if (!content.ok()) return {};
    file = content->digest;
  }
  const std::string& digest = found.folder.empty() ? found.digest : found.folder;
  if (digest.empty()) return {};
  const auto address = stores_->AddressOf(digest, file, seconds);
  return address.ok() ? *address : std::string();
}

std::optional<s3::Presigned> StepFiles::UploadAddress(const std::string& key, const std::string& hex, int64_t size) {
  const auto task = TaskOf(key);
  if (!task.ok() || task->artifact_store.empty() || size > kMaxSinglePut) return std::nullopt;
  auto address = stores_->UploadAddress(task->artifact_store, absl::HexStringToBytes(hex), size, kAddressSeconds);
  if (!address.ok()) return std::nullopt;
  return *std::move(address);
}

absl::Status StepFiles::TakeSent(const std::string& key, const std::string& hex) {
  ASSIGN_OR_RETURN(const AttemptTask task, TaskOf(key));
  const std::string digest = absl::HexStringToBytes(hex);
  return deliveries_->Receive(
      key, hex, [&](const std::string& path) { return stores_->FetchSent(task.artifact_store, digest, path); });
}

absl::Status StepFiles::PutOutput(const std::string& key, const std::string& name, const std::string& hex,
                                  bool folder) {
  ASSIGN_OR_RETURN(const AttemptTask task, TaskOf(key));
  for (const std::string& output : task.outputs) {
    if (output == name) return deliveries_->PutOutput(key, name, hex, folder);
  }
  return NotThere("OUTPUT_NOT_FOUND", absl::StrCat("this step declares no output `", name, "`"));
}

}  // namespace orch
