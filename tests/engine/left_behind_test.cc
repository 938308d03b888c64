// What a launcher left in a store, and a store that is away meanwhile.
#include "server/engine/left_behind.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"
#include "server/base/folder_pack.h"
#include "server/base/status.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

// Names and their bytes; what is asked for a name that ends with `away` has no answer.
class HomeDouble : public BlobHome {
 public:
  absl::Status Put(const std::string&, const std::string&, int64_t, absl::string_view) override {
    return absl::UnimplementedError("double");
  }
  absl::Status Get(const std::string& name, const std::string& path, absl::string_view) override {
    const auto size = SizeOf(name);
    if (!size.ok()) return size.status();
    std::ofstream(path) << things[name];
    return absl::OkStatus();
  }
  absl::StatusOr<int64_t> SizeOf(const std::string& name) override {
    if (absl::EndsWith(name, away)) return trouble;
    if (things.count(name) == 0) return Error(absl::StatusCode::kNotFound, "OBJECT_MISSING", name);
    return static_cast<int64_t>(things[name].size());
  }
  absl::Status Remove(const std::string& name) override {
    things.erase(name);
    return absl::OkStatus();
  }
  bool has_addresses() const override { return true; }

  std::map<std::string, std::string> things;
  std::string away = "none";
  absl::Status trouble;
};

class LeftBehindTest : public testing::Test {
 protected:
  LeftBehindTest() : dir_(testing::TempDir() + "left-" + Hex(RandomBytes(6))) {
    fs::create_directories(dir_);
    SetUpTask();
    std::string outputs;
    for (const char* name : {"f", "g"}) {
      home_->things[absl::StrCat("left/k/outputs/", name)] = name;
      absl::StrAppend(&outputs, outputs.empty() ? "" : ",", R"({"name":")", name,
                      R"(","kind":"file","digest":"sha256:)", Hex(Sha256Of(name)), "\"}");
    }
    home_->things["left/k/manifest.json"] =
        absl::StrCat(R"({"version":1,"fence":"k","launcher":"one","end":{"exit_code":0},"outputs":[)", outputs, "]}");
  }
  ~LeftBehindTest() override { fs::remove_all(dir_); }

  void SetUpTask() {
    AttemptTask task;
    task.json = R"({"root":"/nowhere"})";
    task.outputs = {"f", "g"};
    task.artifact_store = "team";
    EXPECT_TRUE(deliveries_.PutTask("k", WriteTask(task)).ok());
    EXPECT_TRUE(deliveries_.Begin("k", "one").ok());
  }
  // Of one output, `f`.
  std::string Manifest(const std::string& kind, const std::string& digest) {
    return absl::StrCat(R"({"version":1,"fence":"k","launcher":"one","end":{"exit_code":0},"outputs":[{"name":"f",)",
                        R"("kind":")", kind, R"(","digest":"sha256:)", Hex(digest), "\"}]}");
  }
  // Leaves all of it in a folder of this machine.
  std::string Root() {
    const std::string root = dir_ + "/work";
    fs::create_directories(root + "/output");
    AttemptTask task;
    task.json = absl::StrCat(R"({"root":")", root, "\"}");
    task.outputs = {"f"};
    EXPECT_TRUE(deliveries_.PutTask("k", WriteTask(task)).ok());
    return root;
  }
  // It is taken, and the step has failed for this.
  void ExpectStoreFailed(const std::string& words) {
    const absl::Status taken = left_.Take("k");
    EXPECT_TRUE(taken.ok()) << taken;
    const std::string end = deliveries_.EndOf("k").value_or("no end");
    EXPECT_TRUE(absl::StrContains(end, "STORE_FAILED") && absl::StrContains(end, words)) << end;
    EXPECT_FALSE(absl::StrContains(end, "exit_code")) << end;
    EXPECT_EQ(deliveries_.DigestOf("k", "f"), "");
  }

  const std::string dir_;
  const std::shared_ptr<HomeDouble> home_ = std::make_shared<HomeDouble>();
  Deliveries deliveries_{dir_, {1000, 5, 2}};
  ArtifactStores stores_{nullptr, nullptr};
  LeftBehind left_{&deliveries_, &stores_, 1000, 5};
};

TEST_F(LeftBehindTest, NothingIsLostWhileTheStoreIsAway) {
  const auto again = [&] {
    ASSERT_TRUE(left_.MayBe("k"));
    const absl::Status taken = left_.Take("k");
    EXPECT_TRUE(LeftBehind::MayComeLater(taken)) << taken;
    EXPECT_FALSE(deliveries_.EndOf("k").has_value());
    EXPECT_EQ(home_->things.size(), 3u);
  };
  again();  // it is not in service
  stores_.Put("team", home_);
  for (const char* away : {"manifest.json", "/f", "/g"}) {  // f is here for good once g is asked for
    home_->away = away;
    for (const absl::Status& trouble : {Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", "no answer"),
                                        Error(absl::StatusCode::kUnauthenticated, "STORE_CREDENTIALS", "none now"),
                                        Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", "of the daemon")}) {
      home_->trouble = trouble;
      again();
    }
  }
  home_->away = "none";
  ASSERT_TRUE(left_.Take("k").ok());
  EXPECT_TRUE(home_->things.empty());
  EXPECT_FALSE(left_.MayBe("k"));
  EXPECT_TRUE(absl::StrContains(*deliveries_.EndOf("k"), "\"exit_code\":0"));
  for (const char* name : {"f", "g"}) EXPECT_EQ(deliveries_.DigestOf("k", name), Sha256Of(name));
}

TEST_F(LeftBehindTest, WhatIsNotThereDoesNotComeLater) {
  stores_.Put("team", home_);
  home_->things["left/k/outputs/g"] = "other";
  ASSERT_TRUE(left_.Take("k").ok());  // its end says so
  EXPECT_TRUE(absl::StrContains(*deliveries_.EndOf("k"), "STORE_FAILED")) << *deliveries_.EndOf("k");
  home_->things.clear();
  const absl::Status nothing = left_.Take("k");
  EXPECT_EQ(nothing.code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(LeftBehind::MayComeLater(nothing));
}

TEST_F(LeftBehindTest, NothingIsLeftOfOneThatNobodyBegan) {
  EXPECT_TRUE(left_.MayBe("k"));
  EXPECT_TRUE(deliveries_.PutTask("m", "task").ok());
  EXPECT_FALSE(left_.MayBe("m"));
}

TEST_F(LeftBehindTest, WhatAnotherLauncherLeftIsNotTaken) {
  stores_.Put("team", home_);
  const std::string mine = home_->things["left/k/manifest.json"];
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {R"("fence":"k")", R"("fence":"m")"}, {R"("launcher":"one")", R"("launcher":"two")"}}) {
    home_->things["left/k/manifest.json"] = absl::StrReplaceAll(mine, {{from, to}});
    EXPECT_EQ(left_.Take("k").code(), absl::StatusCode::kNotFound) << to;
    EXPECT_FALSE(deliveries_.EndOf("k").has_value());
    EXPECT_EQ(home_->things.size(), 3u);
    EXPECT_EQ(deliveries_.DigestOf("k", "f"), "");
  }
}

TEST_F(LeftBehindTest, AManifestThatIsNoneSaysSo) {
  stores_.Put("team", home_);
  const std::string mine = home_->things["left/k/manifest.json"];
  const std::string hex = Hex(Sha256Of("g"));
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{mine, "{"},
                                                                                 {mine, "[]"},
                                                                                 {R"("version":1)", R"("version":2)"},
                                                                                 {R"("version":1,)", ""},
                                                                                 {R"({"exit_code":0})", "7"},
                                                                                 {R"("name":"g")", R"("name":"h")"},
                                                                                 {hex, hex.substr(1)}}) {
    home_->things["left/k/manifest.json"] = absl::StrReplaceAll(mine, {{from, to}});
    const absl::Status taken = left_.Take("k");
    EXPECT_EQ(ReasonOf(taken), "MANIFEST_INVALID") << to;
    EXPECT_FALSE(LeftBehind::MayComeLater(taken));
    EXPECT_FALSE(deliveries_.EndOf("k").has_value()) << to;
  }
  home_->things["left/k/manifest.json"] = mine + std::string(1 << 20, ' ');
  EXPECT_EQ(ReasonOf(left_.Take("k")), "ARTIFACT_TOO_LARGE");
}

TEST_F(LeftBehindTest, WhatAnEarlierLifeOfTheDaemonHasTakenIsNotAskedForAgain) {
  stores_.Put("team", home_);
  home_->away = "/g";
  home_->trouble = Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", "no answer");
  EXPECT_FALSE(left_.Take("k").ok());
  home_->things.erase("left/k/outputs/f");
  home_->away = "none";
  ASSERT_TRUE(left_.Take("k").ok());
  EXPECT_TRUE(absl::StrContains(*deliveries_.EndOf("k"), "\"exit_code\":0")) << *deliveries_.EndOf("k");
}

TEST_F(LeftBehindTest, AnObjectAtTheLimitAndPastIt) {
  stores_.Put("team", home_);
  for (const int size : {1000, 1001}) {
    const std::string bytes(static_cast<size_t>(size), 'x');
    home_->things["left/k/outputs/f"] = bytes;
    home_->things["left/k/manifest.json"] = Manifest("file", Sha256Of(bytes));
    if (size == 1000) {
      ASSERT_TRUE(left_.Take("k").ok());
      EXPECT_EQ(deliveries_.DigestOf("k", "f"), Sha256Of(bytes));
      deliveries_.Remove("k");
      SetUpTask();
    } else {
      ExpectStoreFailed("limit artifact_bytes");
    }
  }
}

TEST_F(LeftBehindTest, AFolderInOnePiece) {
  stores_.Put("team", home_);
  std::vector<FolderEntry> entries;
  entries.push_back({"d", FolderEntry::Kind::kFolder, false, ""});
  entries.push_back({"d/x", FolderEntry::Kind::kFile, false, Sha256Of("bytes")});
  const std::string listing = WriteListing(entries);
  const auto pack = [&](const std::string& of, const std::string& bytes) {
    return absl::StrCat(PackHead(static_cast<int64_t>(of.size())), of, PackLength(static_cast<int64_t>(bytes.size())),
                        bytes);
  };
  home_->things["left/k/manifest.json"] = Manifest("folder", Sha256Of(listing));
  const std::string manifest = home_->things["left/k/manifest.json"];
  home_->things["left/k/outputs/f"] = pack(listing, "bytes");
  ASSERT_TRUE(left_.Take("k").ok());
  EXPECT_EQ(deliveries_.DigestOf("k", "f"), Sha256Of(listing));
  EXPECT_EQ(Sha256Of(*ListFolder(deliveries_.OutputDir("k") + "/f", nullptr)), Sha256Of(listing));
  entries[1].path = "d/y";
  for (const std::string& other : {pack(listing, "other"), pack(WriteListing(entries), "bytes")}) {
    deliveries_.Remove("k");
    SetUpTask();
    home_->things["left/k/manifest.json"] = manifest;
    home_->things["left/k/outputs/f"] = other;
    ExpectStoreFailed("not what its manifest says");
  }
}

TEST_F(LeftBehindTest, WhatWasLeftInTheStepsFolder) {
  const std::string root = Root();
  std::ofstream(root + "/output/f") << "bytes";
  std::ofstream(root + "/manifest.json") << Manifest("file", Sha256Of("bytes"));
  ASSERT_TRUE(left_.Take("k").ok());
  EXPECT_EQ(deliveries_.DigestOf("k", "f"), Sha256Of("bytes"));
  EXPECT_TRUE(absl::StrContains(*deliveries_.EndOf("k"), "\"exit_code\":0"));
}

TEST_F(LeftBehindTest, AFolderThatWasLeftInTheStepsFolder) {
  for (const bool changed : {false, true}) {
    const std::string root = Root();
    EXPECT_TRUE(deliveries_.Begin("k", "one").ok());
    fs::create_directories(root + "/output/f/d");
    std::ofstream(root + "/output/f/d/x") << "bytes";
    std::ofstream(root + "/manifest.json") << Manifest("folder", Sha256Of(*ListFolder(root + "/output/f", nullptr)));
    if (!changed) {
      ASSERT_TRUE(left_.Take("k").ok());
      EXPECT_TRUE(fs::exists(deliveries_.OutputDir("k") + "/f/d/x"));
      deliveries_.Remove("k");
    } else {
      std::ofstream(root + "/output/f/d/y") << "more";
      ExpectStoreFailed("not what its manifest says");
    }
  }
}

TEST_F(LeftBehindTest, WhatTheStepsFolderHasInsteadOfAnOutput) {
  const auto leave = [&](const std::function<void(const std::string&)>& make) {
    fs::remove_all(dir_ + "/work");
    deliveries_.Remove("k");
    const std::string root = Root();
    EXPECT_TRUE(deliveries_.Begin("k", "one").ok());
    make(root + "/output/f");
    std::ofstream(root + "/manifest.json") << Manifest("file", Sha256Of("bytes"));
  };
  leave([](const std::string& at) { std::ofstream(at) << "other"; });
  ExpectStoreFailed("not what its manifest says");
  leave([](const std::string& at) { std::ofstream(at) << std::string(1001, 'x'); });
  ExpectStoreFailed("limit artifact_bytes");
  leave([](const std::string& at) { fs::create_symlink("/etc/passwd", at); });
  ExpectStoreFailed("cannot read");
  leave([](const std::string& at) { EXPECT_EQ(mkfifo(at.c_str(), 0600), 0); });
  ExpectStoreFailed("cannot read");
  leave([](const std::string&) {});
  ExpectStoreFailed("cannot read");
}

TEST_F(LeftBehindTest, WhatTheStepsFolderHasInsteadOfAManifest) {
  const std::string root = Root();
  const std::string at = root + "/manifest.json";
  EXPECT_EQ(left_.Take("k").code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(mkfifo(at.c_str(), 0600), 0);
  EXPECT_EQ(ReasonOf(left_.Take("k")), "STORE_FAILED");
  fs::remove(at);
  fs::create_symlink("/etc/passwd", at);
  EXPECT_EQ(ReasonOf(left_.Take("k")), "STORE_FAILED");
  fs::remove(at);
  std::ofstream(at) << Manifest("file", Sha256Of("bytes")) << std::string(1 << 20, ' ');
  EXPECT_EQ(ReasonOf(left_.Take("k")), "ARTIFACT_TOO_LARGE");
  EXPECT_FALSE(deliveries_.EndOf("k").has_value());
}

}  // namespace
}  // namespace orch
