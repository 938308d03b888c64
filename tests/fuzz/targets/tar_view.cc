// A folder as a tar file: any piece is that piece of the whole, and a reader of tar finds the names and bytes of the
// folder. Each line of the input is `name` or `name=text` or `name@link target`.
#include "server/rpc/tar_view.h"

#include <map>

#include "tests/fuzz/scratch.h"

namespace orch::rpc {
namespace {

namespace fs = std::filesystem;

struct Member {
  char type = '0';
  std::string link;
  std::string bytes;
  bool operator==(const Member&) const = default;
};

// Only names that stay in the folder: what a path means is the file system's business.
bool Harmless(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.back() == '/' || name.find('\0') != std::string::npos) return false;
  return fs::path(name).lexically_normal() == fs::path(name) && name != "." && name.rfind("..", 0) != 0;
}

std::map<std::string, Member> Fill(const std::string& folder, std::string_view input) {
  std::error_code error;
  fs::remove_all(folder, error);
  fs::create_directories(folder, error);
  size_t count = 0;
  while (!input.empty() && count++ < 50) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string line(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
    const size_t at = line.find_first_of("=@");
    const std::string name = line.substr(0, at);
    if (!Harmless(name)) continue;
    const std::string path = folder + "/" + name;
    fs::create_directories(fs::path(path).parent_path(), error);
    if (error || fs::exists(fs::symlink_status(path, error))) continue;
    error.clear();
    const std::string rest = at == std::string::npos ? "" : line.substr(at + 1);
    if (at == std::string::npos) {
      fs::create_directories(path, error);
    } else if (line[at] == '@') {
      if (!rest.empty() && rest.find('\0') == std::string::npos) fs::create_symlink(rest, path, error);
    } else {
      std::ofstream(path, std::ios::binary) << rest;
    }
  }
  std::map<std::string, Member> members;
  for (fs::recursive_directory_iterator it(folder, error), last; !error && it != last; it.increment(error)) {
    const std::string name = it->path().string().substr(folder.size() + 1);
    if (it->is_symlink()) {
      members[name] = {'2', fs::read_symlink(it->path()).string(), ""};
    } else if (it->is_directory()) {
      members[name + "/"] = {'5', "", ""};
    } else {
      std::ifstream in(it->path(), std::ios::binary);
      members[name] = {'0', "", std::string(std::istreambuf_iterator<char>(in), {})};
    }
  }
  return members;
}

size_t Octal(const std::string& field) { return std::stoul("0" + field, nullptr, 8); }
std::string Text(const std::string& field) { return field.substr(0, field.find('\0')); }

// Reads ustar with the pax records that we write.
std::map<std::string, Member> Untar(const std::string& tar) {
  std::map<std::string, Member> members;
  std::map<std::string, std::string> pax;
  size_t at = 0;
  for (;;) {
    REQUIRE(at + 512 <= tar.size());
    const std::string header = tar.substr(at, 512);
    at += 512;
    if (header == std::string(512, '\0')) break;
    size_t sum = 0;
    for (size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
    REQUIRE(Octal(header.substr(148, 6)) == sum);
    const size_t size = Octal(header.substr(124, 11));
    REQUIRE(at + size <= tar.size());
    const std::string bytes = tar.substr(at, size);
    at += (size + 511) / 512 * 512;
    if (header[156] == 'x') {
      for (size_t r = 0; r < bytes.size();) {
        const size_t length = std::stoul(bytes.substr(r));
        const std::string record = bytes.substr(r, length);
        REQUIRE(record.size() == length && record.back() == '\n');
        const size_t space = record.find(' ');
        const size_t equals = record.find('=');
        pax[record.substr(space + 1, equals - space - 1)] = record.substr(equals + 1, length - equals - 2);
        r += length;
      }
      continue;
    }
    const std::string name = pax.count("path") > 0 ? pax["path"] : Text(header.substr(0, 100));
    const std::string link = pax.count("linkpath") > 0 ? pax["linkpath"] : Text(header.substr(157, 100));
    REQUIRE(members.emplace(name, Member{header[156], link, bytes}).second);
    pax.clear();
  }
  REQUIRE(tar.find_first_not_of('\0', at) == std::string::npos);
  return members;
}

void Check(std::string_view input) {
  static const fuzz::Scratch scratch;
  const std::string folder = scratch.dir() + "/folder";
  const std::map<std::string, Member> members = Fill(folder, input);
  const auto view = TarView::Open(folder);
  REQUIRE(view.ok());
  const std::string whole = view->Read(0, view->size() + 1000).value();
  REQUIRE(static_cast<int64_t>(whole.size()) == view->size() && whole.size() % 512 == 0);
  for (const int64_t piece : {int64_t{77}, int64_t{512}, int64_t{4000}}) {
    std::string joined;
    while (static_cast<int64_t>(joined.size()) < view->size() && joined.size() < 20'000) {
      const std::string next = view->Read(static_cast<int64_t>(joined.size()), piece).value();
      REQUIRE(!next.empty() && static_cast<int64_t>(next.size()) <= piece);
      joined += next;
    }
    REQUIRE(whole.compare(0, joined.size(), joined) == 0);
  }
  REQUIRE(view->Read(view->size(), 1).value().empty());
  REQUIRE(Untar(whole) == members);
}

}  // namespace
}  // namespace orch::rpc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orch::rpc::Check(orch::fuzz::View(data, size));
  return 0;
}
