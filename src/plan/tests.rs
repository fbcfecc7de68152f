use super::*;
use crate::mapping::Mapping;
use crate::protocol::Delivery;
use crate::sendable::NotSendable;

const ALL_THERE: RevisionFacts =
    RevisionFacts { exists: true, names_web: true, has_release_tasks: false, set_by_deploy: BTreeMap::new() };
const DEFAULT: Policy<'static> = Policy {
    missing_config: MissingConfig::Fail,
    untested: Untested::Fail,
    deliver: Deliver::Auto,
    here: None,
    ignore_config: &BTreeSet::new(),
    excluded: &BTreeSet::new(),
};

fn known(facts: RevisionFacts) -> Known {
    Known { facts, ..Known::default() }
}

fn id(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

fn want(revision: char, names: &[&str]) -> WantedApp {
    let config_names = names.iter().map(|name| (*name).to_owned()).collect();
    WantedApp {
        runs: Runs::Revision(id(revision)),
        config_names,
        build_settings: BTreeMap::new(),
        from_image: None,
    }
}

fn run(revision: char) -> LiveApp {
    let config_names = vec!["GIT_REV".to_owned()];
    let status = AppStatus { runs: Runs::Revision(id(revision)), ..AppStatus::default() };
    LiveApp {
        status,
        config_names,
        broken: None,
        is_scaled_to_nothing: false,
        hold: HoldPoint::Healthy,
        obstacles: Vec::new(),
        kept: Vec::new(),
    }
}

fn there(name: &str) -> DestinationApp {
    app(name).into()
}

fn routes(mapping: &str, wanted: &BTreeMap<AppName, WantedApp>) -> Routes {
    Routes::of(
        &mapping.parse().unwrap(),
        wanted.keys(),
        &BTreeSet::new(),
        &"production".parse().unwrap(),
        false,
    )
}

#[test]
fn what_is_scaled_to_nothing_stays_stopped_whatever_is_deployed() {
    let wanted = BTreeMap::from([(app("api"), want('a', &[])), (app("web"), want('b', &[]))]);
    let stopped = |is_scaled_to_nothing, revision| {
        let live = run(revision);
        let status = AppStatus { condition: Condition::Stopped, ..live.status.clone() };
        LiveApp { status, is_scaled_to_nothing, ..live }
    };
    let plan = |is_scaled_to_nothing| {
        let live = ["api", "web"].map(|name| (there(name), stopped(is_scaled_to_nothing, 'a'))).into();
        let routes = routes("", &wanted);
        make(&wanted, &routes, &live, &Options::default(), &DEFAULT, |_, _| known(ALL_THERE)).unwrap()
    };
    assert_eq!(plan(false).stopped, [app("api")], "a deploy of web starts it");
    assert_eq!(plan(true).stopped, [app("api"), app("web")]);
    assert_eq!(plan(true).rows.len(), 1);
}

#[test]
fn a_revision_that_is_not_here_is_told_with_its_reason() {
    let wanted = BTreeMap::from([(app("web"), want('b', &[]))]);
    let live = [(there("web"), run('a'))].into();
    let here = AppsHere::from([(app("web"), Here { status: run('b').status, broken: None })]);
    let policy = Policy { here: Some(&here), ..DEFAULT };
    let told = |known: Known| {
        let made =
            make(&wanted, &routes("", &wanted), &live, &Options::default(), &policy, |_, _| known.clone());
        made.unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let missing = known(RevisionFacts::default());
    let unreadable = Known { unreadable: Some("no HEAD".to_owned()), ..missing.clone() };
    assert_eq!(told(unreadable), ["the repository of web here cannot be read: no HEAD"]);
    let arriving = Known { is_arriving: true, ..missing.clone() };
    assert_eq!(told(arriving), ["a deploy of web is running here; graduate again when it has ended"]);
    assert!(told(missing)[0].contains("push from a shallow clone"));
}

#[test]
fn only_a_changed_revision_is_a_change() {
    let wanted = [("api", 'a'), ("web", 'b'), ("new", 'c')];
    let wanted: BTreeMap<_, _> =
        wanted.map(|(name, revision)| (app(name), want(revision, &["GIT_REV"]))).into();
    let live = [("api", '1'), ("web", 'b'), ("other", '2')];
    let live = live.map(|(name, revision)| (there(name), run(revision))).into();
    let (routes, options) = (routes("", &wanted), Options::default());
    let plan = make(&wanted, &routes, &live, &options, &DEFAULT, |_, _| known(ALL_THERE)).unwrap();
    let rows: Vec<_> = plan.rows.iter().map(|row| (row.app.as_str(), row.is_new, row.from)).collect();
    assert_eq!(rows, [("api", false, Runs::Revision(id('1'))), ("new", true, Runs::Nothing)]);
    assert_eq!(plan.unchanged, [app("web")]);
    assert_eq!(plan.left_alone, [there("other")]);
}

#[test]
fn an_app_whose_image_is_gone_is_a_problem_if_it_is_deployed_and_a_remark_if_not() {
    let wanted: BTreeMap<_, _> = [(app("api"), want('a', &[])), (app("web"), want('b', &[]))].into();
    let routes = routes("", &wanted);
    let made = |lost: &str| {
        let live = [("api", '1'), ("other", '2'), ("web", 'b')];
        let live = live.map(|(name, revision)| {
            let mut app = run(revision);
            app.status.image_is_gone = lost.contains(name);
            (there(name), app)
        });
        make(&wanted, &routes, &live.into(), &Options::default(), &DEFAULT, |_, _| known(ALL_THERE))
    };
    assert_eq!(made("").unwrap().remarks, Vec::<String>::new());
    let remarks = made("web other").unwrap().remarks;
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks[1].contains("`dokku ps:rebuild web`"), "{remarks:?}");
    assert_eq!(made("api web").unwrap_err(), [Problem::ImageIsGone { there: there("api") }]);
}

#[test]
fn every_problem_is_found_at_once() {
    let wanted: BTreeMap<_, _> =
        [(app("api"), want('a', &["KEY", "GIT_REV"])), (app("web"), want('b', &["A", "B"]))].into();
    let live = [(there("api"), run('1'))].into();
    let options = Options { only: Some([app("api"), app("web"), app("x")].into()), ..Options::default() };
    let gone = |name: &AppName, _| known(RevisionFacts { exists: name.as_str() != "api", ..ALL_THERE });
    let routes = routes("", &wanted);
    let problems = make(&wanted, &routes, &live, &options, &DEFAULT, gone).unwrap_err();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4);
    assert!(texts[0].contains("`only` names x"));
    assert!(texts[1].contains("a revision that its repository has neither here nor there"));
    assert!(texts[2].ends_with("`dokku config:set --no-restart api KEY=...`"));
    assert!(texts[3].ends_with("`dokku apps:create web && dokku config:set --no-restart web A=... B=...`"));
}

#[test]
fn an_app_is_compared_with_what_it_is_called_there() {
    let names = ["api-staging", "web-staging", "web-test", "cron"];
    let wanted: BTreeMap<_, _> = names.map(|name| (app(name), want('a', &["KEY"]))).into();
    let live = [(there("api"), run('1')), (there("cron"), run('1'))].into();
    let options = Options { only: Some([app("api-staging"), app("cron")].into()), ..Options::default() };
    let routes = routes("*-staging=* *-test=*", &wanted);
    let plan = |options| make(&wanted, &routes, &live, options, &DEFAULT, |_, _| known(ALL_THERE));
    let texts: Vec<String> = plan(&options).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("web-staging and web-test would all become web;"), "{texts:?}");
    assert_eq!(texts[1], "`only` names cron, which no rule of `graduate:map` fits");
    let missing = "api lacks config that api-staging has here; set it there:\n\
                   `dokku config:set --no-restart api KEY=...`";
    assert_eq!(texts[2], missing);
    assert_eq!(routes.unmapped, [app("cron")]);
    assert!(routes.is_foreign(&there("cron")), "it is another app than the one here");
}

#[test]
fn names_that_nobody_need_set_are_not_asked_for() {
    let names = ["DOKKU_APP_TYPE", "GIT_REV", "IGNORED", "GENERATED", "SYNCED", "OWN"];
    let wanted: BTreeMap<_, _> = [(app("api"), want('a', &names)), (app("new"), want('a', &names))].into();
    let live = [(there("api"), run('1'))].into();
    let routes = routes("", &wanted);
    let ignored = ["IGNORED".parse().unwrap()].into();
    let policy = Policy { missing_config: MissingConfig::Warn, ignore_config: &ignored, ..DEFAULT };
    let set_by_deploy =
        [("GENERATED".to_owned(), SetByDeploy::First), ("SYNCED".to_owned(), SetByDeploy::Each)].into();
    let facts = RevisionFacts { set_by_deploy, ..ALL_THERE };
    let plan =
        make(&wanted, &routes, &live, &Options::default(), &policy, |_, _| known(facts.clone())).unwrap();
    let missing: Vec<_> = plan.missing_config.iter().map(|missing| missing.names.join(" ")).collect();
    assert_eq!(missing, ["GENERATED OWN", "OWN"], "a first deploy generates, a later one does not");
}

#[test]
fn a_new_app_is_not_built_without_the_settings_of_its_build() {
    let build_settings: RawFactors =
        [("builder".to_owned(), [("build-dir".to_owned(), vec!["x".to_owned()])].into())].into();
    let want = || WantedApp { build_settings: build_settings.clone(), ..want('a', &[]) };
    let wanted: BTreeMap<_, _> = [(app("api"), want()), (app("new"), want())].into();
    let live = [(there("api"), run('1'))].into();
    let routes = routes("", &wanted);
    let plan = |missing_config, options: &[&str], theirs: Option<RawFactors>| {
        let policy = Policy { missing_config, ..DEFAULT };
        let options =
            Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>()).unwrap();
        let known = |_: &AppName, _| Known { build_settings_there: theirs.clone(), ..known(ALL_THERE) };
        make(&wanted, &routes, &live, &options, &policy, known)
    };
    let warned = |plan: Plan| plan.missing_settings.iter().map(|one| one.app.to_string()).collect::<Vec<_>>();
    let nothing = || Some(RawFactors::new());
    let problems = plan(MissingConfig::Fail, &[], nothing()).unwrap_err();
    let problem = "new lacks settings of its build that it has here (builder build-dir); set them there:\n\
                   `dokku apps:create new && dokku builder:set new build-dir x`";
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [problem]);
    assert_eq!(
        warned(plan(MissingConfig::Fail, &["allow-missing-config"], nothing()).unwrap()),
        ["api", "new"]
    );
    assert_eq!(warned(plan(MissingConfig::Warn, &[], nothing()).unwrap()), ["api", "new"]);
    assert!(warned(plan(MissingConfig::Ignore, &[], nothing()).unwrap()).is_empty());
    let other = [("builder".to_owned(), [("build-dir".to_owned(), vec!["y".to_owned()])].into())].into();
    assert!(
        warned(plan(MissingConfig::Fail, &[], Some(other)).unwrap()).is_empty(),
        "the destination has its own"
    );
    assert!(warned(plan(MissingConfig::Fail, &[], None).unwrap()).is_empty(), "nothing is built there");
    // What is set for all apps of the source is in no manifest.
    let known = |_: &AppName, _| Known {
        build_settings_here: Some(build_settings.clone()),
        build_settings_there: nothing(),
        ..known(ALL_THERE)
    };
    let wanted = [(app("api"), self::want('a', &[]))].into();
    let current = make(&wanted, &routes, &live, &Options::default(), &DEFAULT, known).unwrap();
    assert_eq!(warned(current), ["api"]);
}

#[test]
fn an_excluded_app_is_left_out_and_named() {
    let wanted: BTreeMap<_, _> = [(app("api"), want('a', &["KEY"])), (app("web"), want('b', &[]))].into();
    let excluded: BTreeSet<_> = [app("api")].into();
    let environment = "production".parse().unwrap();
    let routes = Routes::of(&Mapping::default(), wanted.keys(), &excluded, &environment, false);
    let policy = Policy { excluded: &excluded, ..DEFAULT };
    let live = [(there("api"), run('1'))].into();
    let plan = make(&wanted, &routes, &live, &Options::default(), &policy, |_, _| known(ALL_THERE)).unwrap();
    assert_eq!((plan.rows.len(), &plan.excluded), (1, &vec![app("api")]));
    assert_eq!(plan.left_alone, [], "it is named once");
    let options = Options { only: Some(excluded.clone()), ..Options::default() };
    let problems = make(&wanted, &routes, &live, &options, &policy, |_, _| known(ALL_THERE)).unwrap_err();
    assert_eq!(problems, [Problem::OnlyExcluded(app("api"))]);
}

#[test]
fn some_unchanged_apps_are_deployed_again_if_that_is_asked_for() {
    let wanted: BTreeMap<_, _> =
        [("api", 'a'), ("web", 'b')].map(|(name, revision)| (app(name), want(revision, &[]))).into();
    let live = [("api", 'a'), ("web", 'b')].map(|(name, revision)| (there(name), run(revision))).into();
    let plan = |names: &[&str]| {
        let redeployed = names.iter().map(|name| app(name)).collect();
        let options = Options { redeployed, ..Options::default() };
        make(&wanted, &routes("", &wanted), &live, &options, &DEFAULT, |_, _| known(ALL_THERE))
    };
    let planned = plan(&["api"]).unwrap();
    assert_eq!((planned.rows.len(), &planned.unchanged), (1, &vec![app("web")]));
    assert_eq!(plan(&["cron"]).unwrap_err(), [Problem::RedeployUnknown(app("cron"))]);
}

#[test]
fn push_options_are_known_or_refused() {
    let parse = |options: &[&str]| {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    };
    let options = parse(&["plan", "only=api,web", "only=x"]).unwrap();
    assert!(options.plan);
    assert_eq!(options.only.unwrap().len(), 3);
    let options = parse(&["redeploy=api,web"]).unwrap();
    assert!(!options.redeploy && options.redeployed.len() == 2);
    for bad in ["Plan", "plan=1", "only", "only=", "only=../x", "redeploy=", "redeploy=A", ""] {
        assert!(parse(&[bad]).is_err(), "{bad:?}");
    }
    assert!(parse(&["again"]).unwrap().again);
    assert!(parse(&["quiet"; MAX_OPTIONS]).is_ok());
    assert_eq!(parse(&["quiet"; MAX_OPTIONS + 1]), Err(OptionError::TooMany));
}

#[test]
fn what_is_in_the_way_of_an_app_that_is_deployed_is_named() {
    let wanted: BTreeMap<_, _> = [(app("api"), want('a', &[])), (app("web"), want('b', &[]))].into();
    let volume = Obstacle::NoVolumeSource { path: "/srv/data".to_owned() };
    let live = |in_the_way: &[Obstacle]| -> BTreeMap<DestinationApp, LiveApp> {
        let api = LiveApp { obstacles: in_the_way.to_vec(), ..run('1') };
        // It runs what is wanted.
        let web = LiveApp { obstacles: vec![Obstacle::Locked {}], ..run('b') };
        [(there("api"), api), (there("web"), web)].into()
    };
    let (routes, options) = (routes("", &wanted), Options::default());
    let plan =
        |live: BTreeMap<_, _>| make(&wanted, &routes, &live, &options, &DEFAULT, |_, _| known(ALL_THERE));
    let refused = plan(live(&[Obstacle::Locked {}, volume.clone()])).unwrap_err();
    let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(
        texts[0].starts_with("api is locked there, by `dokku apps:lock api` or by a deploy"),
        "{texts:?}"
    );
    assert!(texts[0].ends_with(":\n`dokku apps:unlock api`"), "{texts:?}");
    let passed = plan(live(&[volume])).unwrap();
    assert!(passed.remarks[0].starts_with("/srv/data, a volume of api, does not exist there"));
}

#[test]
fn a_kept_image_takes_the_place_of_a_build_unless_the_same_is_to_be_deployed_again() {
    let wanted: BTreeMap<_, _> =
        [("api", 'a'), ("web", 'b')].map(|(name, revision)| (app(name), want(revision, &[]))).into();
    let kept = |revision, kept| LiveApp { kept: vec![id(kept)], ..run(revision) };
    let live = [(there("api"), kept('b', 'a')), (there("web"), kept('b', 'b'))].into();
    let delivery = |options: &[&str]| {
        let options =
            Options::parse(&options.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()).unwrap();
        let plan =
            make(&wanted, &routes("", &wanted), &live, &options, &DEFAULT, |_, _| known(ALL_THERE)).unwrap();
        plan.rows.iter().map(|row| (row.app.to_string(), row.delivery.delivery())).collect::<Vec<_>>()
    };
    assert_eq!(delivery(&[]), [("api".to_owned(), Delivery::Kept)]);
    for options in [["redeploy=web"], ["redeploy"]] {
        let all = [("api".to_owned(), Delivery::Kept), ("web".to_owned(), Delivery::Build)];
        assert_eq!(delivery(&options), all, "{options:?}");
    }
}

#[test]
fn the_sources_image_is_sent_where_it_can_be_and_is_wanted() {
    let wanted: BTreeMap<_, _> = [(app("api"), want('a', &[]))].into();
    let live = [(there("api"), run('b'))].into();
    let planned = |deliver, image: Option<Result<SourceImage, NotSendable>>| {
        let policy = Policy { deliver, ..DEFAULT };
        let known = Known { image, ..known(ALL_THERE) };
        let made =
            make(&wanted, &routes("", &wanted), &live, &Options::default(), &policy, |_, _| known.clone());
        made.map(|plan| plan.rows[0].delivery.clone()).map_err(|problems| problems[0].to_string())
    };
    let build = |why: Option<&str>| PlannedDelivery::Build { why: why.map(str::to_owned) };
    for deliver in [Deliver::Auto, Deliver::Image] {
        let image = SourceImage { name: "x:1".to_owned(), bytes: 12 };
        let sent = PlannedDelivery::Image { bytes: 12, name: image.name.clone() };
        assert_eq!(planned(deliver, Some(Ok(image))), Ok(sent));
    }
    assert_eq!(planned(Deliver::Auto, None), Ok(build(None)), "it was not looked up");
    let none = "no image of it is kept here";
    assert_eq!(planned(Deliver::Auto, Some(Err(NotSendable::NotKept))), Ok(build(Some(none))));
    let refused = planned(Deliver::Image, Some(Err(NotSendable::NotKept))).unwrap_err();
    assert_eq!(refused, format!("api cannot be delivered by an image (`deliver` is `image`): {none}"));
}
