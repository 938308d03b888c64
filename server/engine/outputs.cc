#include "server/engine/outputs.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

absl::Status Wrong(absl::string_view reason, const OutputSpec& spec, absl::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, reason, absl::StrCat("output `", spec.name, "` ", what));
}

// Looks before anything is moved.
absl::Status Check(const OutputSpec& spec, const std::string& path, int64_t value_bytes) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) {
    if (errno != ENOENT) return Wrong("OUTPUT_INVALID", spec, absl::StrCat("cannot be read: ", strerror(errno)));
    return Wrong("OUTPUT_MISSING", spec, "was not written: the command ended well but left nothing at its path");
  }
  if (S_ISLNK(st.st_mode)) return Wrong("OUTPUT_INVALID", spec, "is a symbolic link; write the bytes themselves");
  if (spec.type == "dir" && !spec.value) {
    if (!S_ISDIR(st.st_mode)) return Wrong("OUTPUT_INVALID", spec, "is declared `type: dir` but is no folder");
    return absl::OkStatus();
  }
  if (S_ISDIR(st.st_mode)) return Wrong("OUTPUT_INVALID", spec, "is a folder; declare `type: dir`");
  if (!S_ISREG(st.st_mode)) return Wrong("OUTPUT_INVALID", spec, "is not a regular file");
  if (spec.value && st.st_size > value_bytes) {
    return Wrong("OUTPUT_INVALID", spec,
                 absl::StrCat("is a value of ", st.st_size, " bytes; at most ", value_bytes,
                              " are allowed (limit value_bytes): make it a file"));
  }
  return absl::OkStatus();
}

absl::Status CheckDelivered(const OutputSpec& spec, absl::string_view delivered, absl::string_view digest) {
  if (delivered.empty() || delivered == digest) return absl::OkStatus();
  return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH",
               absl::StrCat("output `", spec.name, "` was delivered as sha256:", Hex(delivered),
                            " and is sha256:", Hex(digest), " now: its bytes were damaged on the daemon's disk"));
}

absl::StatusOr<StoredOutput> StoreValue(const OutputSpec& spec, uint32_t number, const std::string& path,
                                        absl::string_view delivered) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!delivered.empty()) RETURN_IF_ERROR(CheckDelivered(spec, delivered, Sha256Of(text.str())));
  const auto json = nlohmann::json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Wrong("OUTPUT_INVALID", spec, "is declared `value: true` but is no JSON");
  StoredOutput stored;
  stored.output = number;
  try {
    stored.value_json = json.dump();
  } catch (const nlohmann::json::exception&) {
    return Wrong("OUTPUT_INVALID", spec, "has text that is no UTF-8");
  }
  stored.blob.digest = Sha256Of(*stored.value_json);
  stored.blob.size = static_cast<int64_t>(stored.value_json->size());
  return stored;
}

}  // namespace

absl::StatusOr<StoredOutput> StoreOutput(const OutputSpec& spec, uint32_t number, const std::string& output_dir,
                                         int64_t value_bytes, bool keep, absl::string_view delivered,
                                         BlobStore* blobs) {
  const std::string path = absl::StrCat(output_dir, "/", spec.name);
  RETURN_IF_ERROR(Check(spec, path, value_bytes));
  if (spec.value) return StoreValue(spec, number, path, delivered);
  auto row = keep ? blobs->Copy(path) : blobs->Take(path);
  if (!row.ok()) {
    if (ReasonOf(row.status()) == "OUTPUT_INVALID") return Wrong("OUTPUT_INVALID", spec, row.status().message());
    return row.status();
  }
  RETURN_IF_ERROR(CheckDelivered(spec, delivered, row->digest));
  StoredOutput stored;
  stored.output = number;
  stored.blob = *std::move(row);
  return stored;
}

absl::StatusOr<std::vector<StoredOutput>> StoreOutputs(const std::vector<OutputSpec>& specs,
                                                       const std::vector<bool>& published,
                                                       const std::string& output_dir, int64_t value_bytes,
                                                       const DeliveredAs& delivered, BlobStore* blobs) {
  std::vector<StoredOutput> out;
  for (size_t o = 0; o < specs.size(); ++o) {
    if (!published[o]) RETURN_IF_ERROR(Check(specs[o], absl::StrCat(output_dir, "/", specs[o].name), value_bytes));
  }
  for (size_t o = 0; o < specs.size(); ++o) {
    if (published[o]) continue;
    ASSIGN_OR_RETURN(StoredOutput stored, StoreOutput(specs[o], static_cast<uint32_t>(o), output_dir, value_bytes,
                                                      false, delivered(specs[o].name), blobs));
    out.push_back(std::move(stored));
  }
  return out;
}

}  // namespace orch
