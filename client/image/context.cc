#include "client/image/context.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"

namespace orch::image {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlock = 512;

// `*` stands for what has no slash, `?` for one such character, `**/` for any folders, `**` for anything. In time that
// grows with the product of both lengths: `at` holds how far the text may have been read.
bool Matches(absl::string_view pattern, absl::string_view text) {
  std::vector<bool> at(text.size() + 1, false);
  at[0] = true;
  while (!pattern.empty()) {
    std::vector<bool> next(text.size() + 1, false);
    if (absl::ConsumePrefix(&pattern, "**/")) {
      bool any = false;
      for (size_t i = 0; i <= text.size(); ++i) {
        any = any || at[i];
        next[i] = at[i] || (any && i > 0 && text[i - 1] == '/');
      }
    } else if (absl::ConsumePrefix(&pattern, "**")) {
      for (size_t i = 0; i <= text.size(); ++i) next[i] = at[i] || (i > 0 && next[i - 1]);
    } else {
      const char c = pattern[0];
      pattern.remove_prefix(1);
      for (size_t i = 0; i <= text.size(); ++i) {
        const bool same = i > 0 && (c == '?' || c == '*' ? text[i - 1] != '/' : text[i - 1] == c);
        next[i] = c == '*' ? at[i] || (same && next[i - 1]) : same && at[i - 1];
      }
    }
    at = std::move(next);
  }
  return at[text.size()];
}

void Octal(char* field, size_t size, uint64_t value) {
  snprintf(field, size, "%0*llo", static_cast<int>(size) - 1, static_cast<unsigned long long>(value));
}

// One header of the form ustar; `path` fits.
std::string Header(const std::string& path, char type, uint64_t size, bool executable, const std::string& link) {
  char block[kBlock] = {};
  memcpy(block, path.data(), std::min<size_t>(path.size(), 100));
  Octal(block + 100, 8, executable || type == '5' ? 0755 : 0644);
  Octal(block + 108, 8, 0);
  Octal(block + 116, 8, 0);
  Octal(block + 124, 12, size);
  Octal(block + 136, 12, 0);
  block[156] = type;
  memcpy(block + 157, link.data(), std::min<size_t>(link.size(), 100));
  memcpy(block + 257, "ustar\00000", 8);
  memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  snprintf(block + 148, 8, "%06o", sum);
  return std::string(block, kBlock);
}

void Pad(std::string* out) { out->append((kBlock - out->size() % kBlock) % kBlock, '\0'); }

// `LENGTH key=value\n`, of which LENGTH counts itself.
std::string PaxRecord(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (rest + absl::StrCat(length).size() != length) ++length;
  return absl::StrCat(length, " ", key, "=", value, "\n");
}

}  // namespace

IgnoreRules::IgnoreRules(absl::string_view text) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    Rule rule;
    rule.keep = absl::ConsumePrefix(&line, "!");
    absl::ConsumePrefix(&line, "./");
    rule.folder = absl::ConsumeSuffix(&line, "/");
    rule.anchored = absl::ConsumePrefix(&line, "/") || absl::StrContains(line, '/');
    if (line.empty()) continue;
    rule.pattern = std::string(line);
    rules_.push_back(std::move(rule));
  }
}

bool IgnoreRules::Ignores(absl::string_view path, bool folder) const {
  bool ignored = false;
  const size_t slash = path.rfind('/');
  const absl::string_view name = slash == absl::string_view::npos ? path : path.substr(slash + 1);
  for (const Rule& rule : rules_) {
    if (rule.folder && !folder) continue;
    if (Matches(rule.pattern, rule.anchored ? path : name)) ignored = !rule.keep;
  }
  return ignored;
}

void Context::AddFile(const std::string& path, std::string bytes, bool executable) {
  entries_.push_back({path, std::move(bytes), "", executable});
}

absl::Status Context::AddFolder(const std::string& folder, const std::string& prefix, const IgnoreRules& rules,
                                int64_t limit) {
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  if (error) return Error(absl::StatusCode::kNotFound, "NO_SUCH_FOLDER", absl::StrCat(folder, ": ", error.message()));
  int64_t size = 0;
  for (; it != fs::recursive_directory_iterator(); it.increment(error)) {
    const std::string relative = it->path().lexically_relative(folder).generic_string();
    const bool is_folder = it->is_directory(error) && !it->is_symlink(error);
    if (rules.Ignores(relative, is_folder)) {
      if (is_folder) it.disable_recursion_pending();
      continue;
    }
    if (is_folder) continue;
    const std::string path = absl::StrCat(prefix, "/", relative);
    if (it->is_symlink(error)) {
      entries_.push_back({path, "", fs::read_symlink(it->path(), error).string(), false});
      continue;
    }
    if (!it->is_regular_file(error)) {
      return Error(absl::StatusCode::kInvalidArgument, "CONTEXT_INVALID",
                   absl::StrCat(it->path().string(), " is no file, folder or link; leave it out by the ignore file"));
    }
    std::ifstream in(it->path(), std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(in), {});
    if (!in) {
      return Error(absl::StatusCode::kInvalidArgument, "CONTEXT_INVALID",
                   absl::StrCat("cannot read ", it->path().string()));
    }
    size += static_cast<int64_t>(bytes.size());
    if (size > limit) {
      return Error(
          absl::StatusCode::kResourceExhausted, "CONTEXT_TOO_LARGE",
          absl::StrCat(folder, " has more than ", limit, " bytes; leave what is not needed out by an ignore file"));
    }
    const auto mode = fs::status(it->path(), error).permissions();
    entries_.push_back({path, std::move(bytes), "", (mode & fs::perms::owner_exec) != fs::perms::none});
  }
  if (error) {
    return Error(absl::StatusCode::kInvalidArgument, "CONTEXT_INVALID", absl::StrCat(folder, ": ", error.message()));
  }
  return absl::OkStatus();
}

std::string Context::Finish() {
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.path < b.path; });
  std::string out;
  for (const Entry& entry : entries_) {
    if (entry.path.size() > 100 || entry.link.size() > 100) {  // in a record of its own
      std::string records = PaxRecord("path", entry.path);
      if (!entry.link.empty()) absl::StrAppend(&records, PaxRecord("linkpath", entry.link));
      absl::StrAppend(&out, Header("pax", 'x', records.size(), false, ""), records);
      Pad(&out);
    }
    absl::StrAppend(
        &out, Header(entry.path, entry.link.empty() ? '0' : '2', entry.bytes.size(), entry.executable, entry.link),
        entry.bytes);
    Pad(&out);
  }
  out.append(2 * kBlock, '\0');
  entries_.clear();
  return out;
}

}  // namespace orch::image
