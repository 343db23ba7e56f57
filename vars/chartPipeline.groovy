/**
 * The pipeline of three Jenkins jobs, each with the accounts of its own folder: patch sets ('review'), what is
 * merged ('mainline'), and tags ('release'). Jenkinsfile.example calls it, docs/how-to/jenkins.md explains it.
 *
 * Values that others choose (branches, tags, titles) reach steps through the environment only: every sh is a text in
 * single quotes.
 *
 * settings:
 *   jobs          full name of the job → [kind:, accounts of all steps, review: [accounts], production: [accounts]];
 *                 accounts: logins: [NAME: credentials id of a user name and password, as NAME_USR and NAME_PSW],
 *                 files: [NAME: id of a secret file], texts: [NAME: id of a secret text]. Those of `review` are there
 *                 for report, approval and promote, those of `production` for approval and promote: never while
 *                 commands, Dockerfiles and tests of the checkout run
 *   image         the tool image, run by docker on an agent with the label; dockerArgs: its options there,
 *                 in place of the engine's socket; with --group-add where a group may use that
 *   podYaml       instead of image: a pod of the kubernetes plugin with a container `pipeline-steps`
 *   label         of agents; without image and podYaml they have the programs themselves
 *   buildkit      address of a BuildKit to build images with, where agents have no engine: tcp://buildkitd.ci:1234
 *   shards        parts that run integration_test at once, each on an agent; 1 if not given
 *   minutes       for the whole build; 90 if not given
 *   approve       false: a release asks for no approval, for a configuration without `approvals`; true if not given
 *   gerrit        [server:, project:, branches:] for the Gerrit Trigger plugin; leave it out for other triggers
 */
def call(Map settings) {
    Map job = jobOf(settings.jobs)
    if (settings.gerrit) {
        properties([pipelineTriggers([trigger(settings.gerrit, job.kind)])])
    }
    if (env.GERRIT_NEWREV && env.GERRIT_NEWREV ==~ /0+/) {
        echo 'the ref was deleted: nothing to build'
        return
    }
    if (job.kind == 'release' && !env.GERRIT_EVENT_TYPE && !env.TAG_NAME) {
        // `scm` would be a branch, built with these accounts.
        error 'chartPipeline: a release job needs a tag, and neither the Gerrit Trigger nor a multibranch job names one: push a tag'
    }
    timeout(time: settings.minutes ?: 90, unit: 'MINUTES') {
        onAgent(settings, job) {
            try {
                build(settings, job)
            } finally {
                // A verdict that could not be sent fails the build; results and archive are kept all the same.
                catchError { withAccounts([job.review]) { sh 'pipeline-steps report' } }
                junit testResults: '.pipeline/junit/*.xml', allowEmptyResults: true
                archiveArtifacts artifacts: '.pipeline/**', allowEmptyArchive: true
            }
        }
    }
}

private void build(Map settings, Map job) {
    if (job.kind == 'review') {
        stage('Start') { withAccounts([job.review]) { sh 'pipeline-steps report --started' } }
    } else if (asksApproval(settings, job)) {
        // First: what a tag brings runs nothing here before somebody has approved it.
        stage('Approve') { withAccounts([job.review, job.production]) { sh 'pipeline-steps approval' } }
    }
    stage('Check') { sh 'pipeline-steps check' }
    stage('Build') { sh 'pipeline-steps build_image && pipeline-steps snapshot' }
    stage('Test') { test(settings, job) }
    if (job.kind == 'release') {
        stage('Release') {
            withAccounts([job.review, job.production]) {
                if (asksApproval(settings, job)) {
                    // Again: one may be withdrawn by now, and promote asks only for those that production requires.
                    sh 'pipeline-steps approval'
                }
                sh 'pipeline-steps promote'
            }
        }
    }
}

private boolean asksApproval(Map settings, Map job) {
    return job.kind == 'release' && settings.approve != false
}

/** integration_test, in parts on several agents when there are shards; what they find comes back in .pipeline/. */
private void test(Map settings, Map job) {
    int shards = settings.shards ?: 1
    if (shards == 1) {
        sh 'pipeline-steps integration_test --retry-infrastructure 2'
        return
    }
    stash name: 'built', includes: '.pipeline/**', allowEmpty: true
    Map branches = [:]
    for (int number = 1; number <= shards; number++) {
        int shard = number // the closure would see the last number
        branches["Test ${shard}/${shards}".toString()] = { testShard(settings, job, shard, shards) }
    }
    try {
        parallel branches
    } finally {
        for (int shard = 1; shard <= shards; shard++) {
            catchError { unstash "shard ${shard}".toString() } // of a lost agent there is none
        }
    }
}

private void testShard(Map settings, Map job, int shard, int shards) {
    onAgent(settings, job) {
        unstash 'built'
        withEnv(["PIPELINE_STEPS_SHARD=${shard}/${shards}"]) {
            try {
                sh 'pipeline-steps integration_test --retry-infrastructure 2'
            } finally {
                stash name: "shard ${shard}".toString(), includes: '.pipeline/**', allowEmpty: true
            }
        }
    }
}

/** The entry of the job that runs: a job that is not named gets nothing, whoever started it. */
private Map jobOf(Map jobs) {
    String found = null
    for (String name in jobs.keySet()) {
        // The builds of a multibranch job are named JOB/BRANCH.
        if (env.JOB_NAME == name || env.JOB_NAME.startsWith(name + '/')) {
            found = name
        }
    }
    if (found == null) {
        error "chartPipeline: jobs does not name ${env.JOB_NAME}: it has ${jobs.keySet().join(', ')}"
    }
    Map job = jobs[found]
    if (!(job.kind in ['review', 'mainline', 'release'])) {
        error "chartPipeline: the kind of ${found} is ${job.kind}: give review, mainline or release"
    }
    return job
}

private Object trigger(Map server, String kind) {
    List events = [patchsetCreated()]
    String branches = server.branches ?: '**'
    if (kind == 'mainline') {
        events = [changeMerged()]
    } else if (kind == 'release') {
        events = [refUpdated()]
        branches = 'refs/tags/**'
    }
    return gerrit(
        serverName: server.server,
        gerritProjects: [[
            compareType: 'PLAIN', pattern: server.project,
            branches: [[compareType: 'ANT', pattern: branches]],
        ]],
        triggerOnEvents: events,
        // `report` votes. The plugin would vote as well, and -1 when a cluster or an agent is broken.
        skipVote: [
            onSuccessful: true, onFailed: true, onUnstable: true, onNotBuilt: true, onAborted: true,
        ],
    )
}

/** A body on an agent, with the checkout, the job's accounts and a builder of images. */
private void onAgent(Map settings, Map job, Closure body) {
    if (settings.podYaml) {
        podTemplate(yaml: settings.podYaml) {
            node(POD_LABEL) {
                container('pipeline-steps') { prepared(settings, job, body) }
            }
        }
    } else if (settings.image) {
        node(settings.label ?: '') {
            String socket = settings.buildkit ? '' : '-v /var/run/docker.sock:/var/run/docker.sock'
            docker.image(settings.image).inside(settings.dockerArgs ?: socket) {
                prepared(settings, job, body)
            }
        }
    } else {
        node(settings.label ?: '') { prepared(settings, job, body) }
    }
}

private void prepared(Map settings, Map job, Closure body) {
    // Nothing of an earlier build may reach a release, or another review.
    deleteDir()
    Map source = checkout(sourceOf(job.kind))
    // no Python of the checkout under test is imported
    List variables = ['PYTHONSAFEPATH=1']
    for (name in ['GIT_COMMIT', 'SVN_REVISION']) { // a checkout returns its own, and sets neither
        if (source[name]) {
            variables << "${name}=${source[name]}".toString()
        }
    }
    if (settings.buildkit) {
        variables += ["BUILDKIT=${settings.buildkit}", 'BUILDX_BUILDER=pipeline-steps', "BUILDX_CONFIG=${env.WORKSPACE_TMP}/buildx"]
    }
    withEnv(variables) {
        if (settings.buildkit) {
            sh 'docker buildx inspect >/dev/null 2>&1 || docker buildx create --name "$BUILDX_BUILDER" --driver remote "$BUILDKIT"'
        }
        withAccounts([job], body)
    }
}

private void withAccounts(List accounts, Closure body) {
    List bound = []
    for (each in accounts) {
        bound += bindings(each ?: [:])
    }
    withCredentials(bound) { body() }
}

/** What to check out: the Jenkinsfile's own revision is the target branch's, not the one that is built. */
private Object sourceOf(String kind) {
    if (!env.GERRIT_EVENT_TYPE) {
        return scm // a multibranch job, or no review system: Jenkins has chosen the revision
    }
    String refs = '+refs/heads/*:refs/remotes/origin/*'
    String revision
    if (kind == 'review') {
        refs += " +${env.GERRIT_REFSPEC}:refs/remotes/origin/review"
        revision = env.GERRIT_PATCHSET_REVISION
    } else if (kind == 'mainline') {
        revision = env.GERRIT_NEWREV
    } else if (env.GERRIT_REFNAME?.startsWith('refs/tags/')) { // never a branch, with these accounts
        revision = env.GERRIT_REFNAME
    }
    if (!revision) {
        error "chartPipeline: the event ${env.GERRIT_EVENT_TYPE} is none for a ${kind} job: correct its trigger"
    }
    return [
        $class: 'GitSCM',
        branches: [[name: revision]],
        userRemoteConfigs: [[
            url: scm.userRemoteConfigs[0].url,
            credentialsId: scm.userRemoteConfigs[0].credentialsId,
            refspec: refs,
        ]],
    ]
}

private List bindings(Map accounts) {
    List found = []
    for (entry in accounts.logins) {
        found << usernamePassword(
            credentialsId: entry.value,
            usernameVariable: "${entry.key}_USR".toString(),
            passwordVariable: "${entry.key}_PSW".toString(),
        )
    }
    for (entry in accounts.files) {
        found << file(credentialsId: entry.value, variable: entry.key)
    }
    for (entry in accounts.texts) {
        found << string(credentialsId: entry.value, variable: entry.key)
    }
    return found
}
