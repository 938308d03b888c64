// What a launcher left in a store, and a store that is away meanwhile.
#include "server/engine/left_behind.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/digest.h"
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
    AttemptTask task;
    task.json = R"({"root":"/nowhere"})";
    task.outputs = {"f", "g"};
    task.artifact_store = "team";
    EXPECT_TRUE(deliveries_.PutTask("k", WriteTask(task)).ok());
    EXPECT_TRUE(deliveries_.Begin("k", "one").ok());
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

}  // namespace
}  // namespace orch
