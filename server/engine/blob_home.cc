#include "server/engine/blob_home.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/status.h"
#include "server/engine/blob_store.h"
#include "server/s3/credentials.h"

namespace orch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

absl::Status Trouble(absl::string_view what, const std::string& path) {
  return Error(errno == EACCES || errno == EROFS || errno == EPERM ? absl::StatusCode::kPermissionDenied
                                                                   : absl::StatusCode::kUnavailable,
               errno == EACCES || errno == EROFS || errno == EPERM ? "STORE_NO_PERMISSION" : "STORE_UNAVAILABLE",
               absl::StrCat("the store's folder: cannot ", what, " ", path, ": ", strerror(errno)));
}

// --- another folder: a disk for artifacts, or a network's file system ---

class FolderHome : public BlobHome {
 public:
  explicit FolderHome(std::string path) : path_(std::move(path)) {}

  absl::Status Put(const std::string& name, const std::string& path, int64_t, absl::string_view) override {
    const std::string to = absl::StrCat(path_, "/", name);
    std::error_code error;
    fs::create_directories(fs::path(to).parent_path(), error);
    const std::string staged = absl::StrCat(to, ".", Hex(RandomBytes(6)));
    const auto clean = absl::MakeCleanup([&] { unlink(staged.c_str()); });
    RETURN_IF_ERROR(CopyInto(path, staged));
    if (rename(staged.c_str(), to.c_str()) != 0) return Trouble("name", to);
    return absl::OkStatus();
  }
  absl::Status Get(const std::string& name, const std::string& path, absl::string_view digest) override {
    const std::string from = absl::StrCat(path_, "/", name);
    if (access(from.c_str(), F_OK) != 0 && errno == ENOENT) {
      if (access(path_.c_str(), F_OK) != 0) return Trouble("find", path_);  // nothing can be said of what it has
      return Error(absl::StatusCode::kNotFound, "OBJECT_MISSING", absl::StrCat(from, " is not there"));
    }
    RETURN_IF_ERROR(CopyInto(from, path));
    if (digest.empty()) return absl::OkStatus();
    const auto content = DigestOfFile(path);
    if (content.ok() && content->digest == digest) return absl::OkStatus();
    unlink(path.c_str());
    return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH", absl::StrCat(from, " is not what was stored"));
  }
  absl::StatusOr<int64_t> SizeOf(const std::string& name) override {
    struct stat st {};
    const std::string path = absl::StrCat(path_, "/", name);
    if (stat(path.c_str(), &st) == 0) return int64_t{st.st_size};
    if (errno == ENOENT) return Error(absl::StatusCode::kNotFound, "OBJECT_MISSING", path + " is not there");
    return Trouble("look at", path);
  }
  absl::Status Remove(const std::string& name) override {
    const std::string path = absl::StrCat(path_, "/", name);
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return Trouble("remove", path);
    return absl::OkStatus();
  }

 private:
  static absl::Status CopyInto(const std::string& from, const std::string& to) {
    const int in = open(from.c_str(), O_RDONLY | O_CLOEXEC);
    if (in < 0) return Trouble("open", from);
    const auto close_in = absl::MakeCleanup([in] { close(in); });
    const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) return Trouble("create", to);
    const auto close_out = absl::MakeCleanup([out] { close(out); });
    std::string buffer(1 << 20, '\0');
    for (;;) {
      const ssize_t n = read(in, buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Trouble("read", from);
      if (n == 0) break;
      for (ssize_t at = 0; at < n;) {
        const ssize_t done = write(out, buffer.data() + at, static_cast<size_t>(n - at));
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return Trouble("write", to);
        at += done;
      }
    }
    return fsync(out) == 0 ? absl::OkStatus() : Trouble("sync", to);
  }

  const std::string path_;
};

// --- a bucket ---

class BucketHome : public BlobHome {
 public:
  BucketHome(s3::BucketConfig config, std::string prefix, s3::Client::GetCredentials credentials)
      : prefix_(std::move(prefix)),
        client_(std::move(config), std::move(credentials), [] { return Clock::Real().Now().wall; }) {}

  absl::Status Put(const std::string& name, const std::string& path, int64_t size, absl::string_view digest) override {
    return client_.PutFile(prefix_ + name, path, size, digest);
  }
  absl::Status Get(const std::string& name, const std::string& path, absl::string_view digest) override {
    return client_.GetFile(prefix_ + name, path, digest);
  }
  absl::StatusOr<int64_t> SizeOf(const std::string& name) override { return client_.Head(prefix_ + name); }
  absl::Status Remove(const std::string& name) override { return client_.Remove(prefix_ + name); }
  absl::StatusOr<s3::Presigned> PresignGet(const std::string& name, int64_t seconds) override {
    return client_.PresignGet(prefix_ + name, seconds);
  }
  absl::StatusOr<s3::Presigned> PresignPut(const std::string& name, int64_t size, absl::string_view digest,
                                           int64_t seconds) override {
    return client_.PresignPut(prefix_ + name, size, digest, seconds);
  }
  bool has_addresses() const override { return true; }
  absl::StatusOr<s3::Presigned> PresignAnyPut(const std::string& name, int64_t seconds) override {
    return client_.PresignAnyPut(prefix_ + name, seconds);
  }
  void Stop() override { client_.Stop(); }

 private:
  const std::string prefix_;
  s3::Client client_;
};

// The chain of the platform; it is kept as long as the store is.
s3::Client::GetCredentials OfPlatform(const std::string& region) {
  const auto variable = [](const char* name) {
    const char* value = getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  auto chain = std::make_shared<s3::CredentialChain>(
      s3::CredentialChain::Options{region, variable, [] { return Clock::Real().Now().wall; }, &s3::FetchByCurl});
  return [chain] { return chain->Get(); };
}

class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {}
  void Add(const std::string& key, const std::string& what, const char* reason = "WRONG_TYPE") {
    faults.push_back({absl::StrCat("config.", key), what, reason});
  }
  std::string Text(const char* key) {
    seen_.push_back(key);
    const auto found = object_.find(key);
    if (found == object_.end()) return {};
    if (found->is_string() && found->get_ref<const std::string&>().size() <= 1024) return found->get<std::string>();
    Add(key, "must be a text");
    return {};
  }
  bool Bool(const char* key, bool usual) {
    seen_.push_back(key);
    const auto found = object_.find(key);
    if (found == object_.end()) return usual;
    if (found->is_boolean()) return found->get<bool>();
    Add(key, "must be true or false");
    return usual;
  }
  int64_t Int(const char* key, int64_t usual, int64_t low, int64_t high) {
    seen_.push_back(key);
    const auto found = object_.find(key);
    if (found == object_.end()) return usual;
    if (found->is_number() && found->get<double>() >= static_cast<double>(low) &&
        found->get<double>() <= static_cast<double>(high)) {
      return static_cast<int64_t>(found->get<double>());
    }
    Add(key, absl::StrCat("must be a number from ", low, " to ", high));
    return usual;
  }
  void Unknown() {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(seen_.begin(), seen_.end(), key) != seen_.end()) continue;
      const bool credential =
          absl::StrContains(key, "key") || absl::StrContains(key, "token") || absl::StrContains(key, "password");
      std::string all;
      for (const std::string& name : seen_) absl::StrAppend(&all, all.empty() ? "" : ", ", name);
      Add(key,
          absl::StrCat(
              credential ? "is no field, and a credential is never written here: name a secret; " : "is unknown; ",
              "there are ", all),
          "UNKNOWN_FIELD");
    }
  }
  absl::Status ToStatus() const {
    return faults.empty()
               ? absl::OkStatus()
               : InvalidInput("CONFIG_INVALID", "the configuration of the artifact store cannot be used", faults);
  }
  std::vector<Violation> faults;

 private:
  const json& object_;
  std::vector<std::string> seen_;
};

absl::StatusOr<std::unique_ptr<BlobHome>> MakeFolder(const json& object, const std::string& data_dir) {
  Reader reader(object);
  const std::string path = reader.Text("path");
  reader.Unknown();
  std::error_code error;
  const std::string own = fs::weakly_canonical(data_dir, error).string();
  const std::string real = fs::weakly_canonical(path, error).string();
  if (path.empty() || path[0] != '/') {
    reader.Add("path", "is the folder of the store, an absolute path", "REQUIRED");
  } else if (real == own || absl::StartsWith(real, own + "/")) {
    reader.Add("path", "is in the data directory, which is the store `default`", "WRONG_TYPE");
  }
  RETURN_IF_ERROR(reader.ToStatus());
  return std::unique_ptr<BlobHome>(std::make_unique<FolderHome>(path + "/blobs"));
}

absl::StatusOr<std::unique_ptr<BlobHome>> MakeBucket(const json& object, ReadSecret secret) {
  Reader reader(object);
  s3::BucketConfig config;
  config.bucket = reader.Text("bucket");
  std::string prefix = reader.Text("prefix");
  config.region = reader.Text("region");
  config.endpoint = reader.Text("endpoint");
  config.path_style = reader.Bool("path_style", !config.endpoint.empty());
  config.sse = reader.Text("sse");
  config.kms_key = reader.Text("kms_key");
  config.ca_file = reader.Text("ca_file");
  config.part_bytes = reader.Int("part_bytes", config.part_bytes, int64_t{5} << 20, int64_t{1} << 30);
  config.whole_bytes = reader.Int("whole_bytes", config.whole_bytes, int64_t{5} << 20, int64_t{5} << 30);
  config.tries = static_cast<int>(reader.Int("tries", config.tries, 1, 20));
  const std::string access = reader.Text("access_key_secret");
  const std::string key = reader.Text("secret_key_secret");
  const std::string session = reader.Text("session_token_secret");
  reader.Unknown();
  if (config.region.empty()) config.region = "us-east-1";
  const bool plain = config.bucket.size() >= 3 && config.bucket.size() <= 63 &&
                     std::all_of(config.bucket.begin(), config.bucket.end(), [](char c) {
                       return absl::ascii_islower(static_cast<unsigned char>(c)) ||
                              absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-' || c == '.';
                     });
  if (!plain) {
    reader.Add("bucket", "is the bucket's name: 3 to 63 lower-case letters, digits, `-` and `.`",
               config.bucket.empty() ? "REQUIRED" : "WRONG_TYPE");
  }
  std::string scheme;
  std::string authority;
  if (!config.endpoint.empty() && !s3::SplitEndpoint(config.endpoint, &scheme, &authority)) {
    reader.Add("endpoint", "must be https://HOST, https://HOST:PORT or, on this machine, http://HOST:PORT");
  }
  if (!config.sse.empty() && config.sse != "AES256" && config.sse != "aws:kms") {
    reader.Add("sse", "must be AES256 or aws:kms");
  }
  if (!config.kms_key.empty() && config.sse != "aws:kms") reader.Add("kms_key", "goes with sse: aws:kms");
  if (access.empty() != key.empty()) {
    reader.Add("access_key_secret", "and secret_key_secret go together", "REQUIRED");
  }
  RETURN_IF_ERROR(reader.ToStatus());
  if (!prefix.empty() && prefix.back() != '/') prefix += '/';
  s3::Client::GetCredentials credentials = OfPlatform(config.region);
  if (!access.empty()) {
    credentials = [=]() -> absl::StatusOr<s3::Credentials> {
      s3::Credentials out;
      ASSIGN_OR_RETURN(out.access_key, secret(access));
      ASSIGN_OR_RETURN(out.secret_key, secret(key));
      if (!session.empty()) {
        ASSIGN_OR_RETURN(out.session_token, secret(session));
      }
      for (std::string* text : {&out.access_key, &out.secret_key, &out.session_token}) {
        absl::StripTrailingAsciiWhitespace(text);
      }
      return out;
    };
  }
  return std::unique_ptr<BlobHome>(
      std::make_unique<BucketHome>(std::move(config), prefix + "blobs/", std::move(credentials)));
}

}  // namespace

absl::StatusOr<s3::Presigned> BlobHome::PresignGet(const std::string&, int64_t) {
  return absl::UnimplementedError("this store has no addresses");
}
absl::StatusOr<s3::Presigned> BlobHome::PresignPut(const std::string&, int64_t, absl::string_view, int64_t) {
  return absl::UnimplementedError("this store has no addresses");
}
absl::StatusOr<s3::Presigned> BlobHome::PresignAnyPut(const std::string&, int64_t) {
  return absl::UnimplementedError("this store has no addresses");
}

absl::Status BlobHome::Probe() {
  const std::string name = absl::StrCat("probe-", Hex(RandomBytes(8)));
  const std::string local = absl::StrCat(fs::temp_directory_path().string(), "/orchd-", name);
  const std::string text = absl::StrCat("orchd looks whether it can write, read and remove here: ", name, "\n");
  const auto clean = absl::MakeCleanup([&] {
    unlink(local.c_str());
    unlink((local + ".back").c_str());
  });
  {
    std::ofstream out(local, std::ios::binary);
    out << text;
  }
  const std::string digest = Sha256Of(text);
  RETURN_IF_ERROR(Put(name, local, static_cast<int64_t>(text.size()), digest));
  absl::Status status = Get(name, local + ".back", digest);
  const absl::Status removed = Remove(name);
  return status.ok() ? removed : status;
}

absl::StatusOr<std::unique_ptr<BlobHome>> MakeBlobHome(const ArtifactStoreRow& row, const std::string& data_dir,
                                                       ReadSecret secret) {
  const json object =
      json::parse(row.config_json.empty() ? "{}" : row.config_json, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return InvalidInput("CONFIG_INVALID", "the configuration of the artifact store cannot be used",
                        {{"config", "must be a mapping", "WRONG_TYPE"}});
  }
  if (row.flavor == "local") return MakeFolder(object, data_dir);
  if (row.flavor == "s3") return MakeBucket(object, std::move(secret));
  return Error(absl::StatusCode::kNotFound, "FLAVOR_NOT_FOUND",
               absl::StrCat("there is no flavor `", row.flavor,
                            "` of artifact stores; there are local (a folder) and s3 (S3 and compatible)"));
}

}  // namespace orch
