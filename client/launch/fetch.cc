#include "client/launch/fetch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/strings/escaping.h"
#include "client/launch/files.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"

namespace orch::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMaxEntries = 10'000'000;
constexpr char kListingType[] = "application/vnd.orchd.folder";

Fault Missing(const std::string& what, const std::string& why) { return {"INPUT_MISSING", what + ": " + why}; }

struct Fetched {
  bool listing = false;
  std::string tag;  // hex of the ETag's digest; empty: none
};

// One file. What came before a break is kept, and the rest asked for.
std::optional<Fault> FetchFile(Daemon& daemon, const std::string& target, const std::string& path, mode_t mode,
                               const std::string& hex, Fetched* fetched, const std::string& url = "") {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Missing(path, std::string("cannot be written: ") + strerror(errno));
  const Closer close_fd(fd);
  auto hash = std::make_unique<Sha256>();
  int64_t have = 0;
  std::string write_error;
  bool stay = false;  // with the daemon
  int broken = 0;
  for (Patience patience(daemon.patience_seconds());;) {
    HttpCall call;
    call.target = target;
    if (have > 0) call.headers.emplace_back("Range", "bytes=" + std::to_string(have) + "-");
    const int64_t asked = have;
    call.take = [&](std::string_view bytes) {
      hash->Update(absl::string_view(bytes.data(), bytes.size()));
      have += static_cast<int64_t>(bytes.size());
      patience.Progress();
      return WriteAll(fd, bytes, &write_error);
    };
    HttpCall again = call;
    if (!stay) call.headers.emplace_back("Orch-Redirects", "1");
    HttpAnswer answer = url.empty() ? daemon.AskOnce(std::move(call)) : daemon.AskElsewhere(url, again);
    const bool sent_on = answer.status == 307 && url.empty();
    bool listing = false;
    if (sent_on) {
      listing = answer.Header("Orch-Content") == "folder";
      answer = daemon.AskElsewhere(answer.Header("Location"), std::move(again));
      // What the store cannot give, the daemon can.
      if (answer.status != 200 && answer.status != 206 && !MayTryAgain(answer) && answer.status != 416) {
        stay = true;
        continue;
      }
      if (MayTryAgain(answer) && ++broken >= 3) stay = true;
    }
    if (!write_error.empty()) return Missing(path, "cannot be written: " + write_error);
    if (answer.status == 200 && asked > 0) {  // it was sent from its beginning: it is another one by now
      return Missing(target, "it changed while it was fetched");
    }
    if (answer.status == 200 || answer.status == 206) {
      fetched->listing = sent_on ? listing : answer.Header("Content-Type") == kListingType;
      const std::string tag = sent_on ? "" : answer.Header("ETag");
      if (tag.size() == 1 + 7 + 64 + 1 && tag.compare(0, 8, "\"sha256:") == 0) fetched->tag = tag.substr(8, 64);
      break;
    }
    if (answer.status == 416 && have > 0) break;  // all of it was here
    if (MayTryAgain(answer) && patience.Wait()) continue;
    Fault fault = FaultOf(answer);
    if (!url.empty()) return Missing(path, "the artifact store does not give it: " + fault.message);
    if (!fault.stale() && !fault.unreachable) fault.reason = "INPUT_MISSING";
    return fault;
  }
  const std::string digest = Hex(hash->Finish());
  const std::string& wanted = hex.empty() ? fetched->tag : hex;
  if (!wanted.empty() && digest != wanted) {
    return Missing(path, "what came is sha256:" + digest + ", not sha256:" + wanted);
  }
  if (fchmod(fd, mode) != 0) return Missing(path, strerror(errno));
  return std::nullopt;
}

// A folder whose listing is in the file `listing_path`, which goes.
std::optional<Fault> FetchFolder(Daemon& daemon, const std::string& target, const std::string& listing_path,
                                 const std::string& at, bool writable) {
  std::string bytes;
  std::string error;
  if (!ReadWhole(listing_path, &bytes, &error)) return Missing(at, error);
  unlink(listing_path.c_str());
  const auto entries = ReadListing(bytes, kMaxEntries);
  if (!entries.ok()) return Missing(at, std::string(entries.status().message()));
  std::error_code made;
  fs::create_directories(at, made);
  if (made) return Missing(at, made.message());
  for (const FolderEntry& entry : *entries) {
    const std::string path = at + "/" + entry.path;
    if (entry.kind == FolderEntry::Kind::kFolder) {
      if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return Missing(path, strerror(errno));
    } else if (entry.kind == FolderEntry::Kind::kLink) {
      if (symlink(entry.content.c_str(), path.c_str()) != 0) return Missing(path, strerror(errno));
    } else {
      Fetched fetched;
      const mode_t mode = static_cast<mode_t>((writable ? 0644 : 0444) | (entry.executable ? 0111 : 0));
      // A source may change while it is sent; the daemon looks whether it did.
      const std::string hex = writable ? "" : Hex(entry.content);
      if (auto fault = FetchFile(daemon, target + "/" + EscapePath(entry.path), path, mode, hex, &fetched)) {
        return fault;
      }
    }
  }
  return std::nullopt;
}

// A file or a folder, whichever it is.
std::optional<Fault> FetchAny(Daemon& daemon, const std::string& target, const std::string& path,
                              const std::string& hex, bool writable) {
  const std::string staged = path + ".part";
  Fetched fetched;
  if (auto fault = FetchFile(daemon, target, staged, writable ? 0644 : 0444, hex, &fetched)) return fault;
  if (fetched.listing) return FetchFolder(daemon, target, staged, path, writable);
  if (rename(staged.c_str(), path.c_str()) != 0) return Missing(path, strerror(errno));
  return std::nullopt;
}

// A folder with the items of a fan-in and their index, as on the daemon's own machine.
std::optional<Fault> FetchFanIn(Daemon& daemon, const std::string& target, const std::string& path) {
  std::error_code made;
  fs::create_directories(path, made);
  if (made) return Missing(path, made.message());
  const std::string index = path + "/index.json";
  Fetched fetched;
  if (auto fault = FetchFile(daemon, target, index, 0444, "", &fetched)) return fault;
  std::string bytes;
  std::string error;
  if (!ReadWhole(index, &bytes, &error)) return Missing(index, error);
  const json items = json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!items.is_array()) return Missing(index, "is no list");
  for (const json& item : items) {
    const std::string name = item.value("path", "");
    const std::string digest = item.value("digest", "");
    if (!IsPlainPath(name) || name.find('/') != std::string::npos || digest.size() != 7 + 64) {
      return Missing(index, "has a bad entry");
    }
    if (auto fault = FetchAny(daemon, target + "/" + EscapePath(name), path + "/" + name, digest.substr(7),
                              /*writable=*/false)) {
      return fault;
    }
  }
  return std::nullopt;
}

// What came with a task that was handed over: the bytes themselves, their address, or what is in a folder.
std::optional<Fault> FetchHanded(Daemon& daemon, const json& bytes, const std::string& path, const std::string& hex,
                                 bool writable, bool executable = false) {
  const mode_t mode = static_cast<mode_t>((writable ? 0644 : 0444) | (executable ? 0111 : 0));
  const auto decoded = [&](const char* name, std::string* out) {
    return absl::Base64Unescape(bytes.at(name).get<std::string>(), out);
  };
  std::string text;
  std::string error;
  if (bytes.contains("url")) {
    Fetched fetched;
    return FetchFile(daemon, "", path, mode, hex, &fetched, bytes.at("url"));
  }
  if (bytes.contains("base64")) {
    if (!decoded("base64", &text) || (!hex.empty() && Hex(Sha256Of(text)) != hex)) return Missing(path, "came damaged");
    if (!WriteFile(path, text, mode, &error)) return Missing(path, "cannot be written: " + error);
    return std::nullopt;
  }
  std::error_code made;
  fs::create_directories(path, made);
  if (made) return Missing(path, made.message());
  if (bytes.contains("index")) {
    if (!decoded("index", &text)) return Missing(path, "came damaged");
    if (!WriteFile(path + "/index.json", text, 0444, &error)) return Missing(path, "cannot be written: " + error);
    const json index = json::parse(text);
    for (const json& item : index) {
      const std::string name = item.at("path");
      const std::string digest = item.at("digest");
      if (!IsPlainPath(name) || digest.size() != 7 + 64) return Missing(path, "has a bad entry");
      if (auto fault = FetchHanded(daemon, bytes.at("items").at(name), path + "/" + name, digest.substr(7), false)) {
        return fault;
      }
    }
    return std::nullopt;
  }
  if (!decoded("listing", &text) || (!hex.empty() && Hex(Sha256Of(text)) != hex)) return Missing(path, "came damaged");
  const auto entries = ReadListing(text, kMaxEntries);
  if (!entries.ok()) return Missing(path, std::string(entries.status().message()));
  for (const FolderEntry& entry : *entries) {
    const std::string at = path + "/" + entry.path;
    if (entry.kind == FolderEntry::Kind::kFolder) {
      if (mkdir(at.c_str(), 0755) != 0 && errno != EEXIST) return Missing(at, strerror(errno));
    } else if (entry.kind == FolderEntry::Kind::kLink) {
      if (symlink(entry.content.c_str(), at.c_str()) != 0) return Missing(at, strerror(errno));
    } else if (auto fault = FetchHanded(daemon, bytes.at("files").at(entry.path), at, Hex(entry.content), writable,
                                        entry.executable)) {
      return fault;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Fault> FetchAll(Daemon& daemon, const json& task) {
  const std::string root = task.at("root");
  std::error_code error;
  for (const std::string& folder :
       {root, root + "/inputs", task.at("scratch").get<std::string>(), task.at("output").get<std::string>()}) {
    fs::create_directories(folder, error);
    if (error) {
      return Fault{"WORKING_DIR_INVALID", "cannot make " + folder + ": " + error.message() +
                                              "; the step's workspace must be writable for its user"};
    }
  }
  std::string why;
  const json& params = task.at("params");
  if (!WriteFile(params.at("path"), params.at("text").get<std::string>(), 0444, &why)) {
    return Missing(params.at("path"), why);
  }
  for (const json& input : task.at("inputs")) {
    const std::string name = input.at("name");
    const std::string path = input.at("path");
    const std::string kind = input.at("kind");
    const std::string digest = input.value("digest", "");
    const std::string target = "/attempt/v1/inputs/" + EscapePath(name);
    const std::string hex = digest.size() == 7 + 64 ? digest.substr(7) : "";
    std::optional<Fault> fault = input.contains("bytes")
                                     ? FetchHanded(daemon, input["bytes"], path, hex, /*writable=*/false)
                                 : kind == "fan_in" ? FetchFanIn(daemon, target, path)
                                                    : FetchAny(daemon, target, path, hex, false);
    if (fault) {
      fault->message = "input `" + name + "`: " + fault->message;
      return fault;
    }
  }
  if (task.contains("source")) {
    const json& source = task["source"];
    if (auto fault = source.contains("bytes")
                         ? FetchHanded(daemon, source["bytes"], source.at("path"), "", /*writable=*/true)
                         : FetchAny(daemon, "/attempt/v1/source", source.at("path"), "", /*writable=*/true)) {
      fault->message = "source: " + fault->message;
      return fault;
    }
  }
  return std::nullopt;
}

}  // namespace orch::launch
